package login

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const theSecret = "s3cret/of+herald"

// endpointAt returns a source of tokens from the URL.
func endpointAt(t *testing.T, url string) *Endpoint {
	t.Helper()
	e, err := NewEndpoint(EndpointConfig{URL: url, ClientID: "herald", Secret: theSecret, Scope: "kafka offline", Audience: "brokers"})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// serve returns the URL of a token endpoint.
func serve(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return s.URL + "/token"
}

// TestTokenRequest checks what the endpoint gets, for endpoints that want the secret in the header, and in the body.
func TestTokenRequest(t *testing.T) {
	for _, inBody := range []bool{false, true} {
		t.Run(fmt.Sprintf("in the body %v", inBody), func(t *testing.T) {
			requests := 0
			e := endpointAt(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
				requests++
				user, password, basic := r.BasicAuth()
				_ = r.ParseForm()
				if r.Method != http.MethodPost || r.Form.Get("grant_type") != "client_credentials" || r.Form.Get("scope") != "kafka offline" || r.Form.Get("audience") != "brokers" {
					t.Errorf("%s with %v", r.Method, r.Form)
				}
				w.Header().Set("Content-Type", "application/json")
				// In the header, both are encoded as in a form (RFC 6749, section 2.3.1).
				inHeader := basic && user == "herald" && password == "s3cret%2Fof%2Bherald" //nolint:gosec // of no server
				if !inBody && inHeader || inBody && !basic && r.Form.Get("client_id") == "herald" && r.Form.Get("client_secret") == theSecret {
					_, _ = io.WriteString(w, `{"access_token":"t","token_type":"bearer","expires_in":3600}`)
					return
				}
				w.WriteHeader(http.StatusUnauthorized)
				_, _ = io.WriteString(w, `{"error":"invalid_client"}`)
			}))
			for range 2 {
				token, err := e.fetch(t.Context())
				if left := time.Until(token.Expires); token.Text != "t" || err != nil || left > time.Hour || left < 59*time.Minute {
					t.Fatalf("%+v, %v", token, err)
				}
			}
			if want := map[bool]int{false: 2, true: 3}[inBody]; requests != want {
				t.Errorf("%d requests for 2 tokens, want %d", requests, want)
			}
		})
	}
}

// TestTokenAnswers tries many answers of the endpoint. An error is one line of bounded length. It names the flag and the
// fault, and has neither the secret nor a token.
func TestTokenAnswers(t *testing.T) {
	soon := time.Now().Add(10 * time.Minute)
	for name, test := range map[string]struct {
		status int
		body   string
		lives  time.Duration
		wrong  string
	}{
		"no expires_in":         {200, `{"access_token":"t","token_type":"Bearer"}`, unknownLife, ""},
		"no type":               {200, `{"access_token":"t","expires_in":60}`, time.Minute, ""},
		"zero":                  {200, `{"access_token":"t","expires_in":0}`, unknownLife, ""},
		"null":                  {200, `{"access_token":"t","expires_in":null}`, unknownLife, ""},
		"a text":                {200, `{"access_token":"t","expires_in":"60"}`, time.Minute, ""},
		"huge":                  {200, `{"access_token":"t","expires_in":99999999999999}`, longestLife, ""},
		"JWT without it":        {200, `{"access_token":"` + signed(t, soon) + `"}`, 10 * time.Minute, ""},
		"JWT that ends earlier": {200, `{"access_token":"` + signed(t, soon) + `","expires_in":3600}`, 10 * time.Minute, ""},
		"JWT, clocks differ":    {200, `{"access_token":"` + signed(t, time.Now().Add(-time.Minute)) + `","expires_in":60}`, time.Minute, ""},
		"negative":              {200, `{"access_token":"secretT0ken","expires_in":-5}`, 0, "the token of the answer has expired already"},
		"not a number":          {200, `{"access_token":"secretT0ken","expires_in":[]}`, 0, "cannot parse json"},
		"another type":          {200, `{"access_token":"secretT0ken","token_type":"mac","expires_in":60}`, 0, `a token of the type "mac", want Bearer`},
		"separator":             {200, `{"access_token":"secretT0ken\u0001auth=x","expires_in":60}`, 0, "is not an access token"},
		"line break":            {200, `{"access_token":"secretT0ken\r\n","expires_in":60}`, 0, "is not an access token"},
		"no token":              {200, `{"expires_in":60}`, 0, "missing access_token"},
		"array":                 {200, `[]`, 0, "cannot parse json"},
		"empty":                 {200, ``, 0, "cannot parse json"},
		"HTML":                  {200, `<!doctype html>`, 0, "cannot parse json: invalid character '<'"},
		"huge body":             {200, `{"access_token":"` + strings.Repeat("a", 2<<20), 0, "cannot parse json"},
		"error with status 200": {200, `{"error":"invalid_scope"}`, 0, "status 200: invalid_scope"},
		"wrong secret":          {401, `{"error":"invalid_client","error_description":"Bad \u001b[31msecret ` + theSecret + ` or s3cret%2Fof%2Bherald"}`, 0, `status 401: invalid_client: Bad \x1b[31msecret (secret) or (secret)`},
		"wrong scope":           {400, `{"error":"invalid_scope","error_description":"no scope kafka"}`, 0, "status 400: invalid_scope: no scope kafka"},
		"long description":      {400, `{"error":"invalid_scope","error_description":"` + strings.Repeat("é", 5000) + `"}`, 0, "…"},
		"header":                {500, `{"Authorization":"Basic aGVyYWxkOnMzY3JldCUyRm9mJTJCaGVyYWxk"}`, 0, `It answers {"Authorization":"Basic (secret)"}`},
		"secret in JSON":        {500, `{"secret":"s3cret\/of+herald"}`, 0, `It answers {"secret":"(secret)"}`},
		"not found":             {404, "404 page not found\n", 0, `status 404: is this a token endpoint? It answers 404 page not found\n`},
		"no body":               {503, "", 0, "status 503"},
	} {
		t.Run(name, func(t *testing.T) {
			e := endpointAt(t, serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(test.status)
				_, _ = io.WriteString(w, test.body)
			}))
			token, err := e.Token(t.Context())
			switch {
			case test.wrong == "" && err != nil, test.wrong != "" && err == nil:
				t.Errorf("got %.40q, %v", token.Text, err)
			case err == nil:
				if left := time.Until(token.Expires); left > test.lives || left < test.lives-20*time.Second {
					t.Errorf("the token is used for %v, want %v", left, test.lives)
				}
			default:
				text := err.Error()
				if !strings.HasPrefix(text, "--kafka-oauth-token-url: ") || !strings.Contains(text, test.wrong) || len(text) > 500 || strings.ContainsAny(text, "\x1b\n") {
					t.Errorf("%v, want the flag and %q in one line", err, test.wrong)
				}
				for _, secret := range []string{theSecret, "s3cret%2F", `s3cret\/`, "aGVyYWxk", "secretT0ken"} {
					if strings.Contains(text, secret) {
						t.Errorf("%v has the secret %s", err, secret)
					}
				}
			}
		})
	}
}

// TestTokenRedirect has an endpoint redirect to another host, which must not get a request: it would have the secret.
func TestTokenRedirect(t *testing.T) {
	for _, status := range []int{301, 302, 303, 307, 308} {
		other := serve(t, func(http.ResponseWriter, *http.Request) { t.Errorf("status %d is followed", status) })
		e := endpointAt(t, serve(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other, status) }))
		if _, err := e.Token(t.Context()); err == nil || !strings.Contains(err.Error(), "redirects are not followed: give the URL that it leads to") || !strings.Contains(err.Error(), other) {
			t.Errorf("status %d: %v", status, err)
		}
	}
}

// TestTokenEndpointDown asks an endpoint that refuses connections, and an endpoint that accepts them and never answers.
func TestTokenEndpointDown(t *testing.T) {
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // nothing was accepted
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	silent := endpointAt(t, "http://"+l.Addr().String())
	if _, err := silent.fetch(ctx); err == nil || !strings.Contains(err.Error(), "no answer in time: ") {
		t.Errorf("silent: %v", err)
	}
	closed := endpointAt(t, "http://127.0.0.1:1/token")
	if _, err := closed.Token(t.Context()); err == nil || !strings.Contains(err.Error(), "--kafka-oauth-token-url: dial tcp 127.0.0.1:1: connect: connection refused") {
		t.Errorf("closed: %v", err)
	}
}

// TestTokenEndpointOfAnotherAuthority names the flag for an endpoint whose certificate nobody known has signed.
func TestTokenEndpointOfAnotherAuthority(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a request with the secret") }))
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	s.StartTLS()
	defer s.Close()
	if _, err := endpointAt(t, s.URL).Token(t.Context()); err == nil || !strings.HasSuffix(err.Error(), "(--kafka-oauth-ca-file names the authorities that sign the endpoint's certificate)") {
		t.Error(err)
	}
}

// TestOtherErrorsAreNotTriedTwice counts the requests after an error that has nothing to do with the secret.
func TestOtherErrorsAreNotTriedTwice(t *testing.T) {
	var requests atomic.Int64
	e := endpointAt(t, serve(t, func(w http.ResponseWriter, _ *http.Request) {
		requests.Add(1)
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	for range 5 { // within the pause after a failed request
		if _, err := e.Token(t.Context()); err == nil {
			t.Error("no error")
		}
	}
	if requests.Load() != 1 {
		t.Errorf("%d requests, want 1", requests.Load())
	}
}

// TestEndpointAddress wants TLS, except on this machine.
func TestEndpointAddress(t *testing.T) {
	for url, want := range map[string]string{ //nolint:gosec // no credentials
		"http://issuer.example/token":     "want https: everybody on the way can read the secret",
		"issuer.example/token":            "want a URL like",
		"ftp://issuer.example/":           "want a URL like",
		"https://a:b@issuer.example/":     "no user and password in the URL",
		"http://localhost.issuer.example": "want https", "http://127.0.0.1.issuer.example": "want https",
		"https://issuer.example/token": "", "http://localhost:1/": "", "http://127.0.0.1:1/": "", "http://[::1]:1/": "",
	} {
		_, err := NewEndpoint(EndpointConfig{URL: url})
		if (err == nil) != (want == "") || err != nil && (!strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "--kafka-oauth-token-url: ")) {
			t.Errorf("%s: %v, want %q", url, err, want)
		}
	}
	if _, err := NewEndpoint(EndpointConfig{URL: "http://issuer.example/", AllowHTTP: true}); err != nil {
		t.Error(err)
	}
	if _, err := NewEndpoint(EndpointConfig{URL: "https://issuer.example/", AllowHTTP: true}); err == nil || !strings.Contains(err.Error(), "--insecure-kafka-oauth-http has no effect") {
		t.Errorf("TLS and the flag: %v", err)
	}
}
