package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"herald/auth"
)

// TestSession goes through the life of a cookie as a browser would.
func TestSession(t *testing.T) {
	s := startSecured(t, nil, "--session-same-site=lax")
	token := s.token(t, auth.Identity{User: "alice", Publish: true})
	status, header, body := request(t, http.MethodPost, s.url+"/session", bearer(token))
	var answer session
	if err := json.Unmarshal([]byte(body), &answer); status != http.StatusOK || err != nil || answer.User != "alice" || !answer.Publish || time.Until(answer.Expires) < 59*time.Minute {
		t.Fatalf("POST /session: %d %s (%v)", status, body, err)
	}
	if strings.Contains(body, token) || header.Get("Cache-Control") != "no-store" {
		t.Errorf("%v %s: want no token, and nothing kept", header, body)
	}
	cookie := (&http.Response{Header: header}).Cookies()[0]
	if cookie.Name != "__Host-herald" || cookie.Path != "/" || cookie.Domain != "" || !cookie.HttpOnly || !cookie.Secure ||
		cookie.SameSite != http.SameSiteLaxMode || cookie.MaxAge < 3500 || cookie.MaxAge > 3630 {
		t.Errorf("cookie %s", header.Get("Set-Cookie"))
	}
	sent := headers("Cookie", cookie.Name+"="+cookie.Value)
	if status, _, body := request(t, http.MethodGet, s.url+"/events", sent); status != http.StatusOK {
		t.Errorf("GET /events with the cookie: %d %s", status, body)
	}
	if status, _, again := request(t, http.MethodGet, s.url+"/session", sent); status != http.StatusOK || again != body {
		t.Errorf("GET /session: %d %s, want %s", status, again, body)
	}
	status, header, body = request(t, http.MethodDelete, s.url+"/session", sent)
	if gone := (&http.Response{Header: header}).Cookies(); status != http.StatusNoContent || len(gone) != 1 || gone[0].MaxAge != -1 || gone[0].Value != "" || !gone[0].Secure {
		t.Errorf("DELETE /session: %d %v %s", status, header, body)
	}
	if status, _, _ := request(t, http.MethodGet, s.url+"/session", nil); status != http.StatusNoContent {
		t.Errorf("GET /session of nobody: %d, want 204", status)
	}
	if status, _, _ := request(t, http.MethodGet, s.url+"/session", headers("Cookie", cookie.Name+"=x")); status != http.StatusNoContent {
		t.Errorf("GET /session with a bad cookie: %d, want 204", status)
	}
	fresh := s.token(t, auth.Identity{User: "bob"})
	both := headers("Cookie", cookie.Name+"="+cookie.Value, "Authorization", "Bearer "+fresh)
	if status, _, body := request(t, http.MethodPost, s.url+"/session", both); status != http.StatusOK || !strings.Contains(body, `"user":"bob","`) {
		t.Errorf("POST /session beside an old cookie: %d %s, want the new one", status, body)
	}
	if strings.Contains(s.log.String(), token) || strings.Contains(s.log.String(), fresh) {
		t.Error("a token is in the log")
	}
}

// TestSessionRefused wants no cookie for anything but a good token in the header.
func TestSessionRefused(t *testing.T) {
	s := startSecured(t, nil)
	token := s.token(t, auth.Identity{User: "alice"})
	long, err := s.signer.Sign(auth.Identity{User: "alice", Expires: time.Now().Add(time.Hour), Types: slices.Repeat([]string{strings.Repeat("t", 200)}, 16)})
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		header http.Header
		status int
	}{
		"nothing":                              {nil, http.StatusUnauthorized},
		"only a cookie":                        {headers("Cookie", "__Host-herald="+token), http.StatusUnauthorized},
		"bad token":                            {bearer(token[1:]), http.StatusUnauthorized},
		"two tokens":                           {http.Header{"Authorization": {"Bearer " + token, "Bearer " + token}}, http.StatusBadRequest},
		"too long for a cookie":                {bearer(long), http.StatusRequestEntityTooLarge},
		"page of another origin":               {headers("Authorization", "Bearer "+token, "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"), http.StatusForbidden},
		"sign-in by another page, old browser": {headers("Authorization", "Bearer "+token, "Origin", "https://evil.example"), http.StatusForbidden},
	} {
		status, header, body := request(t, http.MethodPost, s.url+"/session", test.header)
		if status != test.status || header.Get("Set-Cookie") != "" || !strings.Contains(body, `"error"`) {
			t.Errorf("%s: %d %v %s, want %d and no cookie", name, status, header, body, test.status)
		}
	}
	if status, _, _ := request(t, http.MethodDelete, s.url+"/session", headers("Origin", "https://evil.example")); status != http.StatusForbidden {
		t.Errorf("sign-out by another page: %d, want 403", status)
	}
}

// TestOrigins asks from pages of several origins, with the cookie and with the header.
func TestOrigins(t *testing.T) {
	const app = "https://app.example"
	s := startSecured(t, nil, "--allow-origin="+app)
	token := s.token(t, auth.Identity{User: "alice", Publish: true})
	own := s.url
	for name, test := range map[string]struct {
		method, path string
		origin, site string // headers of the browser
		cookie       bool
		status       int
		readable     bool // CORS lets the page read it
	}{
		"own page opens a stream":              {http.MethodGet, "/events", "", "same-origin", true, 200, false},
		"own page, old browser":                {http.MethodGet, "/events", "", "", true, 200, false},
		"own page publishes":                   {http.MethodPost, "/broadcast", own, "same-origin", true, 201, false},
		"address typed in":                     {http.MethodGet, "/events", "", "none", true, 200, false},
		"listed page opens a stream":           {http.MethodGet, "/events", app, "same-site", true, 200, true},
		"listed page publishes":                {http.MethodPost, "/broadcast", app, "same-site", true, 201, true},
		"listed page with its own token":       {http.MethodGet, "/events", app, "cross-site", false, 200, true},
		"foreign page opens a stream":          {http.MethodGet, "/events", "https://evil.example", "cross-site", true, 403, false},
		"foreign page, old browser":            {http.MethodGet, "/events", "https://evil.example", "", true, 403, false},
		"foreign page of the same site":        {http.MethodGet, "/events", "https://evil.app.example", "same-site", true, 403, false},
		"foreign page as an image":             {http.MethodGet, "/events", "", "cross-site", true, 403, false},
		"sandboxed page":                       {http.MethodGet, "/events", "null", "cross-site", true, 403, false},
		"listed name with another scheme":      {http.MethodGet, "/events", "http://app.example", "same-site", true, 403, false},
		"listed name with another port":        {http.MethodGet, "/events", app + ":8443", "same-site", true, 403, false},
		"listed name as a prefix":              {http.MethodGet, "/events", app + ".evil.example", "cross-site", true, 403, false},
		"listed name as a pattern":             {http.MethodGet, "/events", "https://appXexample", "cross-site", true, 403, false},
		"foreign page asks who it is":          {http.MethodGet, "/session", "https://evil.example", "cross-site", true, 403, false},
		"foreign page publishes":               {http.MethodPost, "/broadcast", "https://evil.example", "cross-site", true, 403, false},
		"foreign page with a token of its own": {http.MethodGet, "/events", "https://evil.example", "cross-site", false, 200, false},
	} {
		t.Run(name, func(t *testing.T) {
			h := bearer(token)
			if test.cookie {
				h = headers("Cookie", "__Host-herald="+token)
			}
			if test.origin != "" {
				h.Set("Origin", test.origin)
			}
			if test.site != "" {
				h.Set("Sec-Fetch-Site", test.site)
			}
			status, header, body := request(t, test.method, s.url+test.path, h)
			if status != test.status {
				t.Errorf("%d %s, want %d", status, body, test.status)
			}
			allowed, credentials := header.Get("Access-Control-Allow-Origin"), header.Get("Access-Control-Allow-Credentials")
			if test.readable && (allowed != test.origin || credentials != "true") || !test.readable && allowed+credentials != "" {
				t.Errorf("allowed to read: %q %q, want %v", allowed, credentials, test.readable)
			}
			if !slices.Contains(header.Values("Vary"), "Origin") {
				t.Errorf("Vary %q: a cache would give one origin's answer to another", header.Values("Vary"))
			}
		})
	}
	for name, test := range map[string]struct {
		origin, path string
		want         bool
	}{
		"listed, stream":  {app, "/events", true},
		"listed, publish": {app, "/users/alice/notifications", true},
		"listed, session": {app, "/session", true},
		"foreign":         {"https://evil.example", "/events", false},
	} {
		status, header, _ := request(t, http.MethodOptions, s.url+test.path, headers("Origin", test.origin, "Sec-Fetch-Site", "cross-site",
			"Access-Control-Request-Method", "GET", "Access-Control-Request-Headers", "authorization,cache-control,last-event-id"))
		allowed := header.Get("Access-Control-Allow-Headers")
		if status != http.StatusNoContent || (header.Get("Access-Control-Allow-Origin") == test.origin) != test.want {
			t.Errorf("preflight of %s: %d %v, want it allowed: %v", name, status, header, test.want)
		}
		for _, want := range []string{"Authorization", "Cache-Control", "Last-Event-ID"} {
			if strings.Contains(allowed, want) != test.want {
				t.Errorf("preflight of %s: %s in %q, want %v", name, want, allowed, test.want)
			}
		}
	}
}

func TestOriginsAsBrowsersWriteThem(t *testing.T) {
	for _, good := range []string{"https://app.example", "http://localhost:3000", "https://xn--bcher-kva.example", "https://[::1]:8443"} {
		if _, err := newOrigins([]string{good}); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{
		"*", "null", "", "app.example", "https://*.example", "https://app.example/", "https://App.example", "https://app.example:443", "http://a:80",
		"https://a@app.example", "https://app.example?", "https://app.example#", "ftp://app.example", "https://", "https://app.example:", "https://a b",
	} {
		if _, err := newOrigins([]string{bad}); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// TestTokenOfAnotherUser asks for bob's with alice's token, in all places where bob could be named.
func TestTokenOfAnotherUser(t *testing.T) {
	s := startSecured(t, nil)
	token := s.token(t, auth.Identity{User: "alice"})
	if status, _, body := request(t, http.MethodPost, s.url+"/users/bob/notifications", bearer(token)); status != http.StatusForbidden {
		t.Errorf("publish without the right to: %d %s, want 403", status, body)
	}
	may := s.token(t, auth.Identity{User: "service", Publish: true})
	var id string
	for _, user := range []string{"bob", "alice"} {
		status, _, body := callWith(t, http.MethodPost, s.url+"/users/"+user+"/notifications", "for "+user, bearer(may))
		var answer published
		if err := json.Unmarshal([]byte(body), &answer); status != http.StatusCreated || err != nil {
			t.Fatalf("publish: %d %s", status, body)
		}
		if user == "bob" {
			id = answer.EventID // an event id out of bob's stream
		}
	}
	for _, query := range []string{"user=bob", "user=bob&user=alice", "sub=bob", "since=earliest&user=bob", "lastEventId=" + id} {
		header := bearer(token)
		if !strings.Contains(query, "lastEventId") && !strings.Contains(query, "since") {
			query += "&since=earliest"
		}
		header.Set("X-User", "bob")
		header.Set("X-Forwarded-User", "bob")
		got, _ := eventsUntil(t, s.url+"/events?"+query, header, "for alice") // an id of bob's names his own topic, not hers
		if slices.Contains(got, "for bob") {
			t.Errorf("alice's token with %s: %q", query, got)
		}
	}
}

// TestQueryToken wants a token in the query only where that is switched on, and in no line of the log
// and no answer.
func TestQueryToken(t *testing.T) {
	off, on := startSecured(t, nil), startSecured(t, nil, "--token-query-parameter=access_token")
	for _, test := range []struct {
		server *secured
		token  string
		want   int
	}{
		{off, off.token(t, auth.Identity{User: "alice"}), http.StatusUnauthorized},
		{on, on.token(t, auth.Identity{User: "alice"}), http.StatusOK},
		{on, on.token(t, auth.Identity{User: "alice"}) + "x", http.StatusUnauthorized},
	} {
		for _, path := range []string{"/events", "/nowhere", "/events/../events"} {
			status, header, body := request(t, http.MethodGet, test.server.url+path+"?access_token="+test.token, nil)
			if path == "/events" && status != test.want {
				t.Errorf("%d %s, want %d", status, body, test.want)
			}
			if strings.Contains(fmt.Sprint(header, body), test.token) {
				t.Errorf("%s answers with the token: %v %s", path, header, body)
			}
		}
		if strings.Contains(test.server.log.String(), test.token) {
			t.Error("the token is in the log")
		}
	}
}
