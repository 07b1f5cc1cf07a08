package server

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"herald/auth"
)

// newIssuer returns a signer, its key set, and the URL of a server that returns the key set once there is true.
func newIssuer(t *testing.T, there *atomic.Bool) (signer *auth.Signer, set []byte, url string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key.pem")
	if err := auth.WriteKeyFiles(path); err != nil {
		t.Fatal(err)
	}
	signer, err := auth.LoadSigner(path)
	if err != nil {
		t.Fatal(err)
	}
	signer.Issuer, signer.Audience = "https://issuer.example", []string{"herald"}
	if set, err = signer.KeySet(); err != nil {
		t.Fatal(err)
	}
	issuer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !there.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write(set)
	}))
	t.Cleanup(issuer.Close)
	return signer, set, issuer.URL
}

// TestKeySet starts a server whose key set is unreachable at first. The server is not ready, asks a stream to
// come again later and a notification to try again later. Once the key set is reachable, the server accepts the
// issuer's tokens, and no token with another signature.
func TestKeySet(t *testing.T) {
	var there atomic.Bool
	signer, set, issuer := newIssuer(t, &there)
	keySet, err := auth.NewJWKS(auth.JWKSConfig{URL: issuer, Refresh: time.Minute, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	srv, _ := startServerWith(t, func(cfg *Config) {
		cfg.InsecureNoAuth, cfg.Keys, cfg.JWTIssuer, cfg.JWTAudience = false, keySet, "https://issuer.example", []string{"herald"}
	})
	public, admin := "http://"+srv.Addr().String(), "http://"+srv.AdminAddr().String()
	token, err := signer.Sign(auth.Identity{User: "alice", Publish: true, Expires: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	status, header, body := request(t, http.MethodGet, public+"/events", bearer(token))
	if status != http.StatusOK || header.Get("Content-Type") != "text/event-stream; charset=utf-8" || !strings.Contains(body, "retry: ") || !strings.Contains(body, "keys-unavailable") {
		t.Errorf("stream without keys: %d %v %s, want it asked to come again", status, header, body)
	}
	if status, header, _ := request(t, http.MethodHead, public+"/events", bearer(token)); status != http.StatusOK || header.Get("Content-Type") != "text/event-stream; charset=utf-8" {
		t.Errorf("HEAD without keys: %d %v, want the head of a stream", status, header)
	}
	// The stream has waited for the first fetch.
	if status, _, body := request(t, http.MethodGet, admin+"/readyz", nil); status != http.StatusServiceUnavailable || !strings.Contains(body, "status 503") {
		t.Errorf("/readyz without keys: %d %s, want 503 and why", status, body)
	}
	if status, header, body := request(t, http.MethodPost, public+"/broadcast", bearer(token)); status != http.StatusServiceUnavailable || header.Get("Retry-After") == "" {
		t.Errorf("publish without keys: %d %v %s, want 503 and when to try again", status, header, body)
	}
	if status, _, body := request(t, http.MethodGet, public+"/events", nil); status != http.StatusUnauthorized {
		t.Errorf("stream without a token: %d %s, want 401 whatever the keys", status, body)
	}
	there.Store(true)
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		if status, _, body := request(t, http.MethodGet, public+"/events", bearer(token)); status == http.StatusOK && strings.Contains(body, "checkpoint") {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("stream, once the key set is reachable: %d %s", status, body)
		}
	}
	if status, _, body := request(t, http.MethodGet, admin+"/readyz", nil); status != http.StatusOK {
		t.Errorf("/readyz with keys: %d %s", status, body)
	}
	if _, _, text := request(t, http.MethodGet, admin+"/metrics", nil); !strings.Contains(text, `herald_jwks_fetches_total{result="ok"} 1`) {
		t.Error("no metric of the key set")
	}
	if status, _, body := request(t, http.MethodGet, public+"/events", bearer(forgeToken(t, set))); status != http.StatusUnauthorized {
		t.Errorf("another's signature under a good kid: %d %s", status, body)
	}
}

// forgeToken returns a token for alice with the key id of the set's first key and another key's signature.
func forgeToken(t *testing.T, set []byte) string {
	t.Helper()
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	claims := jwt.MapClaims{"sub": "alice", "exp": time.Now().Add(time.Hour).Unix(), "iss": "https://issuer.example", "aud": "herald"}
	forged := jwt.NewWithClaims(jwt.SigningMethodES256, claims)
	var keys struct{ Keys []struct{ Kid string } }
	if err := json.Unmarshal(set, &keys); err != nil {
		t.Fatal(err)
	}
	forged.Header["kid"] = keys.Keys[0].Kid
	text, err := forged.SignedString(stranger)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestTokenOfAnotherUser names bob in requests with alice's token, in every place where a request can name a
// user. Alice gets none of bob's records.
func TestTokenOfAnotherUser(t *testing.T) {
	s := startSecured(t, nil)
	token := s.token(t, auth.Identity{User: "alice"})
	if status, _, body := request(t, http.MethodPost, s.url+"/users/bob/notifications", bearer(token)); status != http.StatusForbidden {
		t.Errorf("publish without the right to: %d %s, want 403", status, body)
	}
	may := s.token(t, auth.Identity{User: "service", Publish: true})
	var id string
	for _, user := range []string{"bob", "alice"} {
		status, _, body := send(t, http.MethodPost, s.url+"/users/"+user+"/notifications", "for "+user, bearer(may))
		var answer published
		if err := json.Unmarshal([]byte(body), &answer); status != http.StatusCreated || err != nil {
			t.Fatalf("publish: %d %s", status, body)
		}
		if user == "bob" {
			id = answer.EventID // an event id of bob's stream
		}
	}
	for _, query := range []string{"user=bob", "user=bob&user=alice", "sub=bob", "since=earliest&user=bob"} {
		if status, _, body := request(t, http.MethodGet, s.url+"/events?"+query, bearer(token)); status != http.StatusBadRequest {
			t.Errorf("alice's token with %s: %d %s, want 400", query, status, body)
		}
	}
	for _, query := range []string{"since=earliest", "lastEventId=" + id} {
		header := bearer(token)
		header.Set("X-User", "bob")
		header.Set("X-Forwarded-User", "bob")
		got, _ := eventsUntil(t, s.url+"/events?"+query, header, "for alice") // bob's id names bob's own topic, not alice's
		if slices.Contains(got, "for bob") {
			t.Errorf("alice's token with %s: %q", query, got)
		}
	}
}

// TestQueryToken sends a token in the query. The server accepts it only with TokenQueryParameter, and neither
// the log nor an answer contains it.
func TestQueryToken(t *testing.T) {
	off, on := startSecured(t, nil), startSecured(t, func(cfg *Config) { cfg.TokenQueryParameter = "access_token" })
	for _, test := range []struct {
		server *secured
		token  string
		want   int
	}{
		{off, off.token(t, auth.Identity{User: "alice"}), http.StatusBadRequest},
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

// TestNoAuthIsWarnedOf wants a warning if the server authenticates nobody and other machines may reach the
// listener.
func TestNoAuthIsWarnedOf(t *testing.T) {
	for listen, want := range map[string]bool{
		"127.0.0.1:8080": false, "localhost:8080": false, "[::1]:8080": false,
		":8080": true, "0.0.0.0:8080": true, "[::]:8080": true, "192.0.2.1:80": true, "herald.example:80": true,
	} {
		var log bytes.Buffer
		cfg := Config{Listen: listen, InsecureNoAuth: true, Logger: slog.New(slog.NewTextHandler(&log, nil))}
		if _, err := newAccess(&cfg, nil, nil); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(log.String(), "level=WARN msg=\"NOBODY IS AUTHENTICATED"); got != want {
			t.Errorf("%s: warned %v, want %v", listen, got, want)
		}
	}
}
