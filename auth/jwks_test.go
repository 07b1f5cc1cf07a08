package auth

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
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
		} else {
			wantRefusal(t, err, "unknown-key")
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
