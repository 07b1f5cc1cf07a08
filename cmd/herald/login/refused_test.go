package login

import (
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestRefusedTokenIsReplaced has a broker refuse a token that is good for long, for example because the issuer has other
// keys now. The next token comes soon, and many refusals do not make many requests.
func TestRefusedTokenIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, requests := endpointOf(time.Hour, 0, nil)
		begun := time.Now()
		var replaced time.Duration
		for range 200 { // log-ins on 100 s
			token, err := r.get(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if token.Text != "a" && replaced == 0 {
				replaced = time.Since(begun)
			}
			r.replace(token.Text)
			time.Sleep(time.Second / 2)
		}
		if replaced > 11*time.Second || replaced == 0 || requests.Load() < 5 || requests.Load() > 11 {
			t.Errorf("replaced after %v, %d requests in 100 s", replaced, requests.Load())
		}
		last, _ := r.get(t.Context())
		time.Sleep(time.Minute)
		r.replace("a") // an old one
		synctest.Wait()
		if token, _ := r.get(t.Context()); token.Text != last.Text {
			t.Error("a token that nobody has refused is replaced")
		}
	})
}

// TestRefusalReachesTheEndpoint logs in with a token, which the broker refuses in either way: with its reason, or without.
func TestRefusalReachesTheEndpoint(t *testing.T) {
	for name, reason := range map[string]string{"with a reason": `{"status":"invalid_token"}`, "without": ""} {
		t.Run(name, func(t *testing.T) {
			var requests atomic.Int64
			e := endpointAt(t, serve(t, func(w http.ResponseWriter, _ *http.Request) {
				requests.Add(1)
				w.Header().Set("Content-Type", "application/json")
				_, _ = w.Write([]byte(`{"access_token":"t","expires_in":3600}`))
			}))
			m, err := NewBearer(e, nil)
			if err != nil {
				t.Fatal(err)
			}
			session, _, err := m.Start(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			e.tokens.since = time.Now().Add(-time.Minute)
			if reason != "" {
				if _, _, err := session.Next(t.Context(), []byte(reason)); err != nil {
					t.Fatal(err)
				}
			}
			session.(*bearerSession).RecordRefusal()
			for end := time.Now().Add(20 * time.Second); requests.Load() < 2; time.Sleep(time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("%d requests, want 2", requests.Load())
				}
			}
		})
	}
}
