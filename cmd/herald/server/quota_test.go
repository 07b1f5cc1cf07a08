package server

import (
	"net/http"
	"slices"
	"strconv"
	"testing"

	"herald/auth"
)

// TestPublishQuota publishes too fast as one user. The server refuses that user, and accepts another user.
func TestPublishQuota(t *testing.T) {
	s := startSecured(t, func(set *Config) { set.PublishRate, set.PublishBurst = 0.01, 3 })
	fast, other := bearer(s.token(t, auth.Identity{User: "fast", Publish: true})), bearer(s.token(t, auth.Identity{User: "other", Publish: true}))
	for n := range 5 {
		status, header, body := request(t, http.MethodPost, s.url+"/broadcast", fast)
		want := http.StatusCreated
		if n >= 3 {
			want = http.StatusTooManyRequests
			if seconds, err := strconv.Atoi(header.Get("Retry-After")); err != nil || seconds < 30 || seconds > 100 {
				t.Errorf("Retry-After %q, want the time for 1 notification in 100 s", header.Get("Retry-After"))
			}
		}
		if status != want {
			t.Errorf("request %d: %d %s, want %d", n, status, body, want)
		}
	}
	if status, _, body := request(t, http.MethodPost, s.url+"/broadcast", other); status != http.StatusCreated {
		t.Errorf("another user: %d %s", status, body)
	}
	// All tokens of a user share one quota.
	again := bearer(s.token(t, auth.Identity{User: "fast", ID: "2", Publish: true}))
	if status, _, _ := request(t, http.MethodPost, s.url+"/broadcast", again); status != http.StatusTooManyRequests {
		t.Errorf("another token of the user: %d, want 429", status)
	}
	// A user without the right to publish gets 403 and uses no quota.
	if status, _, _ := request(t, http.MethodPost, s.url+"/broadcast", bearer(s.token(t, auth.Identity{User: "nobody"}))); status != http.StatusForbidden {
		t.Errorf("a user without the right to publish: %d, want 403", status)
	}
}

// TestQuotaByAddress publishes without a token, from two addresses through a trusted proxy. Each address has its
// own quota.
func TestQuotaByAddress(t *testing.T) {
	srv, _ := startServerWith(t, func(s *Config) {
		s.PublishRate, s.PublishBurst, s.TrustedProxies = 0.01, 2, []string{"127.0.0.0/8"}
	})
	post := func(address string) int {
		t.Helper()
		status, _, _ := send(t, http.MethodPost, "http://"+srv.Addr().String()+"/broadcast", "x", http.Header{"X-Forwarded-For": {address}})
		return status
	}
	got := []int{post("192.0.2.1"), post("192.0.2.1"), post("192.0.2.1"), post("192.0.2.2")}
	if want := []int{http.StatusCreated, http.StatusCreated, http.StatusTooManyRequests, http.StatusCreated}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
