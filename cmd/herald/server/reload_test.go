package server

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"herald/auth"
)

// otherSecret signs tokens that testSecret does not verify.
var otherSecret = []byte(strings.Repeat("o", 32))

// secretKeys returns keys that verify tokens of the secrets.
func secretKeys(t *testing.T, secrets ...[]byte) auth.Keys {
	t.Helper()
	keys, err := auth.Secret(secrets...)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// signed returns a token for alice by the secret, for an audience if it is not empty.
func signed(t *testing.T, secret []byte, audience string) string {
	t.Helper()
	signer, err := auth.NewSecretSigner(secret)
	if err != nil {
		t.Fatal(err)
	}
	if audience != "" {
		signer.Audience = []string{audience}
	}
	token, err := signer.Sign(auth.Identity{User: "alice", Publish: true, Expires: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// TestReload replaces the secret of tokens, in two steps, and other settings, while a stream is open. Wrong settings
// change nothing.
func TestReload(t *testing.T) {
	s := startSecured(t, func(cfg *Config) { cfg.PublishRate = 0 })
	before, after := signed(t, testSecret, ""), signed(t, otherSecret, "")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	events := openEvents(ctx, t, s.url+"/events", bearer(before))
	if e, err := events.Next(); err != nil || e.Type != "checkpoint" { // the stream begins here
		t.Fatalf("the stream begins with %+v %v", e, err)
	}
	page := func(token string) (status int, allowed string) {
		header := bearer(token)
		header.Set("Origin", "https://app.example")
		status, answer, _ := send(t, http.MethodPost, s.url+"/users/alice/notifications", "x", header)
		return status, answer.Get("Access-Control-Allow-Origin")
	}
	check := func(step string, wantBefore, wantAfter int, wantAllowed string) {
		t.Helper()
		if got, allowed := page(before); got != wantBefore || allowed != wantAllowed {
			t.Errorf("%s: the old token gets %d %q, want %d %q", step, got, allowed, wantBefore, wantAllowed)
		}
		if got, allowed := page(after); got != wantAfter || allowed != wantAllowed {
			t.Errorf("%s: the new token gets %d %q, want %d %q", step, got, allowed, wantAfter, wantAllowed)
		}
	}
	settings := s.cfg.Settings
	settings.AllowOrigin = []string{"https://app.example"}
	settings.Keys = secretKeys(t, testSecret, otherSecret)
	if err := s.Reload(settings); err != nil {
		t.Fatal(err)
	}
	check("both secrets", http.StatusCreated, http.StatusCreated, "https://app.example")
	settings.Keys = secretKeys(t, otherSecret)
	if err := s.Reload(settings); err != nil {
		t.Fatal(err)
	}
	check("the new secret", http.StatusUnauthorized, http.StatusCreated, "https://app.example")
	for name, change := range map[string]func(*Settings){
		"origin":     func(s *Settings) { s.AllowOrigin = []string{"app.example"} },
		"limit":      func(s *Settings) { s.MaxStreams = -1 },
		"proxies":    func(s *Settings) { s.TrustedProxies = []string{"x"} },
		"algorithm":  func(s *Settings) { s.JWTAlgorithms = []string{"RS256"} },
		"no keys":    func(s *Settings) { s.Keys = nil },
		"other keys": func(s *Settings) { s.Keys = new(auth.JWKS) },
	} {
		wrong := settings
		wrong.Keys, wrong.PublishMaxBytes = secretKeys(t, testSecret), 10
		change(&wrong)
		if _, isConfig := errors.AsType[*ConfigError](s.Reload(wrong)); !isConfig {
			t.Errorf("%s: Reload returns no ConfigError", name)
		}
	}
	check("wrong settings", http.StatusUnauthorized, http.StatusCreated, "https://app.example")
	for seen := 0; seen < 4; { // the stream of the old token gets the notifications of the checks
		e, err := events.Next()
		if err != nil || e.Type == "end" {
			t.Fatalf("the stream has ended after %d notifications: %+v %v", seen, e, err)
		}
		if e.Data == "x" {
			seen++
		}
	}
	settings.PublishMaxBytes, settings.PublishRate, settings.PublishBurst = 10, 0.01, 1
	if err := s.Reload(settings); err != nil {
		t.Fatal(err)
	}
	statuses := map[int]bool{}
	for _, value := range []string{"0123456789a", "y", "y"} {
		status, _, _ := send(t, http.MethodPost, s.url+"/users/alice/notifications", value, bearer(after))
		statuses[status] = true
	}
	if !statuses[http.StatusRequestEntityTooLarge] || !statuses[http.StatusTooManyRequests] {
		t.Errorf("notifications above the new limits get %v, want 413 and 429", statuses)
	}
}

// TestReloadIsWhole reloads between two pairs of secret and audience while requests arrive. A token with the secret of
// one pair and the audience of the other is never accepted, and tokens of a pair are accepted now and then.
func TestReloadIsWhole(t *testing.T) {
	s := startSecured(t, nil)
	pairs := []Settings{s.cfg.Settings, s.cfg.Settings}
	pairs[0].Keys, pairs[0].JWTAudience = secretKeys(t, testSecret), []string{"one"}
	pairs[1].Keys, pairs[1].JWTAudience = secretKeys(t, otherSecret), []string{"two"}
	if err := s.Reload(pairs[0]); err != nil {
		t.Fatal(err)
	}
	good, mixed := signed(t, testSecret, "one"), signed(t, testSecret, "two")
	stop := make(chan struct{})
	var reloading sync.WaitGroup
	for range 2 {
		reloading.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				if err := s.Reload(pairs[i%2]); err != nil {
					t.Error(err)
				}
			}
		})
	}
	accepted := 0
	for range 200 {
		if status, _, _ := request(t, http.MethodGet, s.url+"/session", bearer(good)); status == http.StatusOK {
			accepted++
		}
		if status, _, body := request(t, http.MethodGet, s.url+"/session", bearer(mixed)); status != http.StatusNoContent {
			t.Fatalf("a token of half a configuration gets %d %s", status, body)
		}
	}
	close(stop)
	reloading.Wait()
	if accepted == 0 {
		t.Error("no good token was accepted")
	}
}

// TestReloadWhileStopping reloads while the server drains and after it has stopped.
func TestReloadWhileStopping(t *testing.T) {
	s := startSecured(t, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	openEvents(ctx, t, s.url+"/events", bearer(signed(t, testSecret, "")))
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		_ = s.Stop()
	}()
	for range 50 {
		if err := s.Reload(s.cfg.Settings); err != nil {
			t.Error(err)
		}
	}
	<-stopped
	if err := s.Reload(s.cfg.Settings); err != nil {
		t.Error(err)
	}
}
