package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"herald/auth"
)

// TestKeySet serves with a key set that is away at first: the server is not ready, a stream is told to
// come again and a notification to try again. Then the keys come.
func TestKeySet(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key.pem")
	if err := auth.WriteKeyFiles(path); err != nil {
		t.Fatal(err)
	}
	signer, err := auth.LoadSigner(path)
	if err != nil {
		t.Fatal(err)
	}
	signer.Issuer, signer.Audience = "https://issuer.example", []string{"herald"}
	set, err := signer.KeySet()
	if err != nil {
		t.Fatal(err)
	}
	var there atomic.Bool
	issuer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !there.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write(set)
	}))
	defer issuer.Close()
	flags := authFlags{JWKSURL: issuer.URL, JWKSRefresh: time.Minute, JWTUserClaim: "sub", JWTIssuer: "https://issuer.example", JWTAudience: []string{"herald"}}
	srv, _ := startServerWith(t, func(s *settings) {
		if s.access, err = flags.access("127.0.0.1:0", s.logger()); err != nil {
			t.Fatal(err)
		}
	})
	public, admin := "http://"+srv.publicListener.Addr().String(), "http://"+srv.adminListener.Addr().String()
	token, err := signer.Sign(auth.Identity{User: "alice", Publish: true, Expires: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	if status, _, body := request(t, http.MethodGet, admin+"/readyz", nil); status != http.StatusServiceUnavailable || !strings.Contains(body, "status 503") {
		t.Errorf("/readyz without keys: %d %s, want 503 and why", status, body)
	}
	status, header, body := request(t, http.MethodGet, public+"/events", bearer(token))
	if status != http.StatusOK || header.Get("Content-Type") != "text/event-stream" || !strings.Contains(body, "retry: ") || !strings.Contains(body, "keys-unavailable") {
		t.Errorf("stream without keys: %d %v %s, want it told to come again", status, header, body)
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
			t.Fatalf("stream, when the keys have come: %d %s", status, body)
		}
	}
	if status, _, body := request(t, http.MethodGet, admin+"/readyz", nil); status != http.StatusOK {
		t.Errorf("/readyz with keys: %d %s", status, body)
	}
	if _, _, text := request(t, http.MethodGet, admin+"/metrics", nil); !strings.Contains(text, `herald_jwks_fetches_total{result="ok"} 1`) {
		t.Error("no metric of the key set")
	}
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
	if status, _, body := request(t, http.MethodGet, public+"/events", bearer(text)); status != http.StatusUnauthorized {
		t.Errorf("another's signature under a good kid: %d %s", status, body)
	}
}
