package auth

import (
	"bytes"
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"
)

// newJWKS returns a key set whose requests are answered by the function endpoint. With nil, only parsing works.
func newJWKS(tb testing.TB, endpoint func(*http.Request) (*http.Response, error)) *JWKS {
	tb.Helper()
	j, err := NewJWKS(JWKSConfig{URL: "https://issuer.example/keys"})
	if err != nil {
		tb.Fatal(err)
	}
	j.client.Transport = roundTripper(endpoint)
	return j
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func answer(status int, body io.Reader) *http.Response {
	return &http.Response{StatusCode: status, Body: io.NopCloser(body), Header: http.Header{}}
}

// keySet returns a set of public keys by their ids.
func keySet(tb testing.TB, keys map[string]crypto.Signer) string {
	tb.Helper()
	var set jwkset.JWKSMarshal
	for id, k := range keys {
		jwk, err := jwkset.NewJWKFromKey(k.Public(), jwkset.JWKOptions{Metadata: jwkset.JWKMetadataOptions{KID: id, USE: jwkset.UseSig}})
		if err != nil {
			tb.Fatal(err)
		}
		set.Keys = append(set.Keys, jwk.Marshal())
	}
	text, err := json.Marshal(set)
	if err != nil {
		tb.Fatal(err)
	}
	return string(text)
}

// issuer is the endpoint of a key set that the test controls.
type issuer struct {
	mu      sync.Mutex
	set     string
	fetches int
	broken  func(*http.Request) (*http.Response, error) // answers instead of set; nil: the endpoint works
}

func (i *issuer) serve(r *http.Request) (*http.Response, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.fetches++
	if i.broken != nil {
		broken := i.broken
		i.mu.Unlock()
		defer i.mu.Lock()
		return broken(r)
	}
	return answer(http.StatusOK, strings.NewReader(i.set)), nil
}

func (i *issuer) change(set string, broken func(*http.Request) (*http.Response, error)) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.set, i.broken = set, broken
}

func (i *issuer) count() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.fetches
}

// withKid returns a token of alice that is valid for a day of fake time. An empty kid leaves "kid" out.
func withKid(tb testing.TB, kid string, method jwt.SigningMethod, key crypto.Signer) string {
	tb.Helper()
	header := map[string]any{}
	if kid != "" {
		header["kid"] = kid
	}
	return signWith(tb, method, key, header, jwt.MapClaims{"sub": "alice", "exp": time.Now().Add(24 * time.Hour).Unix()})
}

// runIssuer runs a key set with i as its endpoint until the test ends. It needs a synctest bubble.
func runIssuer(t *testing.T, i *issuer) (*JWKS, *JWT) {
	t.Helper()
	set := newJWKS(t, i.serve)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { set.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	j, err := NewJWT(JWTConfig{Keys: set})
	if err != nil {
		t.Fatal(err)
	}
	return set, j
}

var errRefused = errors.New("connection refused")

func refuseConnection(*http.Request) (*http.Response, error) { return nil, errRefused }

// hang answers when the client gives up.
func hang(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

func TestKeysRotate(t *testing.T) {
	keys := privateKeys()
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{set: keySet(t, map[string]crypto.Signer{"one": keys["rsa"]})}
		_, j := runIssuer(t, i)
		one, two := withKid(t, "one", jwt.SigningMethodRS256, keys["rsa"]), withKid(t, "two", jwt.SigningMethodES256, keys["p256"])
		verify := func(token string) error { _, err := j.Verify(t.Context(), token); return err }
		if err := verify(one); err != nil {
			t.Fatalf("a request before the first fetch has ended: %v", err)
		}
		time.Sleep(time.Minute)
		i.change(keySet(t, map[string]crypto.Signer{"one": keys["rsa"], "two": keys["p256"]}), nil)
		var all sync.WaitGroup
		for range 100 { // requests with the new key at the same time
			all.Go(func() {
				if err := verify(two); err != nil {
					t.Errorf("a token of the new key: %v", err)
				}
			})
		}
		all.Wait()
		if got := i.count(); got != 2 {
			t.Errorf("%d fetches, want one at the start and one for the new key", got)
		}
		i.change(keySet(t, map[string]crypto.Signer{"two": keys["p256"]}), nil)
		if err := verify(one); err != nil {
			t.Errorf("a token of the removed key before the next fetch: %v", err)
		}
		time.Sleep(11 * time.Minute)
		if err := verify(one); !errors.Is(err, ErrInvalidToken) {
			t.Errorf("a token of the removed key after the next fetch: %v, want it refused", err)
		}
		if err := verify(two); err != nil {
			t.Error(err)
		}
	})
}

// TestUnknownKidFlood verifies many tokens whose keys do not exist. The issuer must get at most one request
// in 10 s, and valid tokens must not wait.
func TestUnknownKidFlood(t *testing.T) {
	keys := privateKeys()
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{set: keySet(t, map[string]crypto.Signer{"one": keys["p256"]})}
		_, j := runIssuer(t, i)
		good := withKid(t, "one", jwt.SigningMethodES256, keys["p256"])
		for n := range 600 { // one a second for 10 minutes
			if _, err := j.Verify(t.Context(), withKid(t, fmt.Sprint("kid", n), jwt.SigningMethodES256, keys["p256"])); !errors.Is(err, ErrInvalidToken) {
				t.Fatalf("unknown kid: %v", err)
			}
			start := time.Now()
			if _, err := j.Verify(t.Context(), good); err != nil || time.Since(start) > 0 {
				t.Fatalf("good token: %v after %v", err, time.Since(start))
			}
			time.Sleep(time.Second)
		}
		if got := i.count(); got < 55 || got > 62 {
			t.Errorf("%d fetches in 10 minutes, want one every 10 s", got)
		}
	})
}

// TestKeySetEndpointDown has an endpoint that refuses connections at the start, then works, then fails again.
// The last fetched keys must stay valid.
func TestKeySetEndpointDown(t *testing.T) {
	keys := privateKeys()
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{broken: refuseConnection}
		set, j := runIssuer(t, i)
		good := withKid(t, "one", jwt.SigningMethodES256, keys["p256"])
		verify := func() error { _, err := j.Verify(t.Context(), good); return err }
		if err := verify(); !errors.Is(err, ErrUnavailable) || !errors.Is(err, errRefused) {
			t.Errorf("down at the start: %v, want ErrUnavailable and the reason", err)
		}
		if err := set.Ready(); !errors.Is(err, errRefused) {
			t.Errorf("ready without keys: %v", err)
		}
		i.change(keySet(t, map[string]crypto.Signer{"one": keys["p256"]}), nil)
		time.Sleep(jwksPause + time.Second)
		if err := errors.Join(verify(), set.Ready()); err != nil {
			t.Errorf("the endpoint works: %v", err)
		}
		for name, broken := range map[string]func(*http.Request) (*http.Response, error){"refuses": refuseConnection, "hangs": hang} {
			i.change("", broken)
			for range 48 {
				time.Sleep(10 * time.Minute)
				start := time.Now()
				if err := errors.Join(verify(), set.Ready()); err != nil || time.Since(start) > 0 {
					t.Fatalf("%s: %v after %v, want the last fetched keys at once", name, err, time.Since(start))
				}
			}
			if _, err := j.Verify(t.Context(), withKid(t, "two", jwt.SigningMethodES256, keys["p256"])); !errors.Is(err, ErrUnavailable) {
				t.Errorf("%s, an unknown key: %v, want ErrUnavailable: the issuer may have added the key", name, err)
			}
		}
	})
}

// TestKeySetEndpointHangsAtTheStart sends many requests before the first fetch. One timeout must answer all of
// them.
func TestKeySetEndpointHangsAtTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, j := runIssuer(t, &issuer{broken: hang})
		token := withKid(t, "one", jwt.SigningMethodES256, privateKeys()["p256"])
		var all sync.WaitGroup
		for range 1000 {
			all.Go(func() {
				if _, err := j.Verify(t.Context(), token); !errors.Is(err, ErrUnavailable) {
					t.Errorf("%v, want ErrUnavailable", err)
				}
			})
		}
		start := time.Now()
		all.Wait()
		if waited := time.Since(start); waited > jwksTimeout+time.Second {
			t.Errorf("a thousand requests were answered after %v", waited)
		}
	})
}

// TestBadKeySetKeepsTheLastKeys lets the endpoint answer with anything but a usable key set. The last fetched
// keys must stay valid, and one error must be logged.
func TestBadKeySetKeepsTheLastKeys(t *testing.T) {
	keys := privateKeys()
	for name, broken := range map[string]func(*http.Request) (*http.Response, error){
		"status 500":            func(*http.Request) (*http.Response, error) { return answer(500, strings.NewReader("{}")), nil },
		"redirect to elsewhere": func(*http.Request) (*http.Response, error) { return answer(302, strings.NewReader("{}")), nil },
		"HTML":                  func(*http.Request) (*http.Response, error) { return answer(200, strings.NewReader("<html>")), nil },
		"an error as JSON": func(*http.Request) (*http.Response, error) {
			return answer(200, strings.NewReader(`{"error":"x"}`)), nil
		},
		"no key": func(*http.Request) (*http.Response, error) { return answer(200, strings.NewReader(`{"keys":[]}`)), nil },
		"values that are not keys": func(*http.Request) (*http.Response, error) {
			return answer(200, strings.NewReader(`{"keys":[1,null,{}]}`)), nil
		},
		"too many keys": func(*http.Request) (*http.Response, error) {
			return answer(200, strings.NewReader(`{"keys":[`+strings.Repeat("{},", maxJWKSKeys)+`{}]}`)), nil
		},
		"an endless body": func(*http.Request) (*http.Response, error) { return answer(200, zeros{}), nil },
		"a truncated body": func(*http.Request) (*http.Response, error) {
			return answer(200, io.MultiReader(strings.NewReader(`{"keys":`), errReader{})), nil
		},
		"a secret": func(*http.Request) (*http.Response, error) {
			return answer(200, strings.NewReader(`{"keys":[{"kty":"oct","kid":"one","k":"eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHg"}]}`)), nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				i := &issuer{set: keySet(t, map[string]crypto.Signer{"one": keys["p256"]})}
				set, j := runIssuer(t, i)
				var log bytes.Buffer
				set.cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
				synctest.Wait() // for the first fetch
				before := i.count()
				i.change("", broken)
				time.Sleep(30 * time.Minute)
				if got := i.count() - before; got < 3 {
					t.Errorf("%d fetches in half an hour", got)
				}
				if _, err := j.Verify(t.Context(), withKid(t, "one", jwt.SigningMethodES256, keys["p256"])); err != nil {
					t.Errorf("a token of the last fetched key: %v", err)
				}
				forged := signWith(t, jwt.SigningMethodHS256, []byte(strings.Repeat("x", 32)), map[string]any{"kid": "one"}, jwt.MapClaims{"sub": "alice", "exp": time.Now().Add(time.Hour).Unix()})
				if _, err := j.Verify(t.Context(), forged); !errors.Is(err, ErrInvalidToken) {
					t.Errorf("a token signed with the secret of the set: %v, want it refused", err)
				}
				if got := strings.Count(log.String(), "\n"); got != 1 || !strings.Contains(log.String(), "level=ERROR") {
					t.Errorf("the log has %d lines, want one error:\n%s", got, log.String())
				}
			})
		})
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// TestHugeKeySetIsNotRead fetches a key set of 1 GiB over a real connection. Herald must close the connection
// early.
func TestHugeKeySetIsNotRead(t *testing.T) {
	var sent atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		n, _ := io.Copy(w, io.LimitReader(zeros{}, 1<<30))
		sent.Store(n)
	}))
	defer server.Close()
	j, err := NewJWKS(JWKSConfig{URL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer j.client.CloseIdleConnections()
	if _, err := j.fetchKeys(t.Context()); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("error %v", err)
	}
	server.Close() // waits for the handler
	if got := sent.Load(); got > 100<<20 {
		t.Errorf("the server sent %d bytes of a response that is too long after 1 MiB", got)
	}
}

// TestWhichKeysOfASetAreUsed checks for which algorithms each key of a set is used.
func TestWhichKeysOfASetAreUsed(t *testing.T) {
	keys := privateKeys()
	setWith := func(name string, change map[string]any) string {
		var set struct{ Keys []map[string]any }
		if err := json.Unmarshal([]byte(keySet(t, map[string]crypto.Signer{"one": keys[name]})), &set); err != nil {
			t.Fatal(err)
		}
		maps.Copy(set.Keys[0], change)
		text, err := json.Marshal(map[string]any{"keys": set.Keys})
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	for name, test := range map[string]struct {
		set        string
		algorithms string // empty: the key must be skipped
	}{
		"RSA":                       {setWith("rsa", nil), strings.Join(rsaAlgorithms, " ")},
		"RSA for one algorithm":     {setWith("rsa", map[string]any{"alg": "PS384"}), "PS384"},
		"RSA for HS256":             {setWith("rsa", map[string]any{"alg": "HS256"}), ""},
		"RSA for encryption":        {setWith("rsa", map[string]any{"use": "enc"}), ""},
		"RSA for signing":           {setWith("rsa", map[string]any{"key_ops": []string{"sign"}}), ""},
		"RSA for verifying":         {setWith("rsa", map[string]any{"key_ops": []string{"verify"}}), strings.Join(rsaAlgorithms, " ")},
		"RSA with its private part": {setWith("rsa", map[string]any{"d": "AQAB"}), ""},
		"RSA of 24 bits":            {setWith("rsa", map[string]any{"n": "AQAB"}), ""},
		"P-256":                     {setWith("p256", nil), "ES256"},
		"P-256, not on the curve":   {setWith("p256", map[string]any{"x": "AQAB"}), ""},
		"P-256 that says P-384":     {setWith("p256", map[string]any{"crv": "P-384"}), ""},
		"Ed25519":                   {setWith("ed25519", nil), "EdDSA"},
		"certificate by URL":        {setWith("p256", map[string]any{"x5u": "http://127.0.0.1:1/"}), "ES256"}, // it must not be fetched
		"malformed certificate":     {setWith("p256", map[string]any{"x5c": []string{"AAAA"}}), "ES256"},      // it must not be read
		"id too long":               {setWith("p256", map[string]any{"kid": strings.Repeat("k", maxKeyID+1)}), ""},
		"id of another type":        {setWith("p256", map[string]any{"kid": 7}), ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := newJWKS(t, nil).parseKeySet([]byte(test.set))
			if test.algorithms == "" {
				if err == nil {
					t.Errorf("the key is used for %q, want it skipped", got[0].algorithms)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if algorithms := strings.Join(got[0].algorithms, " "); algorithms != test.algorithms {
				t.Errorf("the key is used for %s, want %s", algorithms, test.algorithms)
			}
		})
	}
}

// TestKidSelectsTheKey verifies tokens with and without "kid" against a set of two keys. A token with a "kid"
// must be verified with the named key only, and a token without a "kid" with any key of the set.
func TestKidSelectsTheKey(t *testing.T) {
	keys := privateKeys()
	synctest.Test(t, func(t *testing.T) {
		_, j := runIssuer(t, &issuer{set: keySet(t, map[string]crypto.Signer{"one": keys["p256"], "two": keys["rsa"]})})
		for name, test := range map[string]struct {
			token string
			want  bool
		}{
			"the right key":       {withKid(t, "one", jwt.SigningMethodES256, keys["p256"]), true},
			"another key":         {withKid(t, "two", jwt.SigningMethodES256, keys["p256"]), false},
			"no kid":              {withKid(t, "", jwt.SigningMethodES256, keys["p256"]), true},
			"no kid, unknown key": {withKid(t, "", jwt.SigningMethodES384, keys["p384"]), false},
			"in another case":     {withKid(t, "One", jwt.SigningMethodES256, keys["p256"]), false},
			"traversal":           {withKid(t, "../one", jwt.SigningMethodES256, keys["p256"]), false},
		} {
			if _, err := j.Verify(t.Context(), test.token); test.want != (err == nil) {
				t.Errorf("%s: %v, want it accepted: %v", name, err, test.want)
			}
		}
	})
}

func TestNewJWKSRefusesConfig(t *testing.T) {
	for name, test := range map[string]struct {
		cfg  JWKSConfig
		want string
	}{
		"nothing":               {JWKSConfig{}, "want a URL like"},
		"a file":                {JWKSConfig{URL: "file:///etc/passwd"}, "want a URL like"},
		"no TLS":                {JWKSConfig{URL: "http://issuer.example/keys"}, "want https"},
		"no TLS, like loopback": {JWKSConfig{URL: "http://localhost.example/keys"}, "want https"},
		"a password":            {JWKSConfig{URL: "https://a:b@issuer.example/keys"}, "want no user and password"}, //nolint:gosec // the test is that it is refused
		"too often":             {JWKSConfig{URL: "https://issuer.example/keys", Refresh: time.Second}, "want 1m0s"},
	} {
		if _, err := NewJWKS(test.cfg); err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "a:b") {
			t.Errorf("%s: error %v, want one with %q", name, err, test.want)
		}
	}
}
