package server

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"herald/auth"
)

// TestSession goes through the life of a cookie as a browser would.
func TestSession(t *testing.T) {
	s := startSecured(t, func(cfg *Config) { cfg.SessionSameSite = http.SameSiteLaxMode })
	token := s.token(t, auth.Identity{User: "alice", Publish: true})
	status, header, body := request(t, http.MethodPost, s.url+"/session", bearer(token))
	var answer session
	if err := json.Unmarshal([]byte(body), &answer); status != http.StatusOK || err != nil || answer.User != "alice" || !answer.Publish || time.Until(answer.Expires) < 59*time.Minute {
		t.Fatalf("POST /session: %d %s (%v)", status, body, err)
	}
	if strings.Contains(body, token) || header.Get("Cache-Control") != "no-store" {
		t.Errorf("%v %s: want no token in the answer, and no-store", header, body)
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
	_, _, metrics := request(t, http.MethodGet, "http://"+s.AdminAddr().String()+"/metrics", nil)
	for _, line := range []string{`herald_sessions_total{result="created"} 2`, `herald_sessions_total{result="removed"} 1`, `herald_sessions_total{result="refused"} 0`} {
		if !strings.Contains(metrics, line+"\n") {
			t.Errorf("no %s", line)
		}
	}
	if strings.Contains(s.log.String(), token) || strings.Contains(s.log.String(), fresh) {
		t.Error("a token is in the log")
	}
}

// TestSessionRefused signs in without a valid token in the header, or from another origin. The server sets no
// cookie.
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
