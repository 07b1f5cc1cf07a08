package server

import (
	"net/http"
	"strings"
	"testing"

	"herald/auth"
)

// TestBasePath asks for every public route under a base path and outside it.
func TestBasePath(t *testing.T) {
	srv := startSecured(t, func(cfg *Config) {
		cfg.BasePath, cfg.Demo, cfg.AllowOrigin = "/team/herald", true, []string{"https://app.example"}
	})
	token := srv.token(t, auth.Identity{User: "alice", Publish: true})
	for _, test := range []struct {
		method, path string
		status       int
		want         string // in the answer or in the Location
	}{
		{http.MethodGet, "/team/herald/events", 200, "checkpoint"},
		{http.MethodHead, "/team/herald/events", 200, ""},
		{http.MethodGet, "/team/herald/herald.js", 200, "herald-connection.js"},
		{http.MethodGet, "/team/herald/herald-share.js", 200, ""},
		{http.MethodGet, "/team/herald/", 200, `href="demo/app.css"`},
		{http.MethodGet, "/team/herald/demo/app.js", 200, ""},
		{http.MethodGet, "/team/herald/demo/condition", 200, "ready"},
		{http.MethodGet, "/team/herald", 308, "/team/herald/"},
		{http.MethodPost, "/team/herald/users/alice/notifications", 201, "offset"},
		{http.MethodGet, "/team/herald/session", 200, "alice"},
		{http.MethodGet, "/events", 404, "did you mean GET /team/herald/events?"},
		{http.MethodGet, "/herald/events", 404, "did you mean GET /team/herald/events?"},
		{http.MethodGet, "/team/heraldevents", 404, ""},
		{http.MethodGet, "/team/herald/event", 404, "did you mean GET /team/herald/events?"},
		{http.MethodGet, "/team/herald/metrics", 404, "is on the admin listener"},
		{http.MethodGet, "/herald.js", 404, "did you mean GET /team/herald/herald.js?"},
		{http.MethodGet, "/", 404, "this listener has POST /team/herald/broadcast; GET /team/herald/events"},
		{http.MethodPost, "/team/herald/events", 405, "use GET"},
	} {
		h := headers("Authorization", "Bearer "+token, "Content-Type", "text/plain", "Origin", "https://app.example")
		body := ""
		if test.method == http.MethodPost {
			body = "hello"
		}
		status, header, text := send(t, test.method, "http://"+srv.Addr().String()+test.path, body, h)
		if status != test.status || !strings.Contains(text+header.Get("Location"), test.want) {
			t.Errorf("%s %s: %d %.300s, want %d with %q", test.method, test.path, status, text, test.status, test.want)
		}
		if got := header.Get("Access-Control-Allow-Origin"); got != "https://app.example" {
			t.Errorf("%s %s: CORS for %q", test.method, test.path, got)
		}
	}
	_, header, _ := send(t, http.MethodPost, "http://"+srv.Addr().String()+"/team/herald/session", "", bearer(token))
	if cookie := header.Get("Set-Cookie"); !strings.HasPrefix(cookie, "__Host-herald.team.herald="+token+";") || !strings.Contains(cookie, "; Path=/;") {
		t.Errorf("cookie %s", cookie)
	}
	status, _, text := send(t, http.MethodGet, "http://"+srv.Addr().String()+"/team/herald/session", "", headers("Cookie", "__Host-herald.team.herald="+token))
	if status != http.StatusOK || !strings.Contains(text, "alice") {
		t.Errorf("with the cookie: %d %s", status, text)
	}
}

// TestBasePathValues wants a wrong base path refused, with an example.
func TestBasePathValues(t *testing.T) {
	for value, ok := range map[string]bool{
		"": true, "/herald": true, "/a/b-c_D9": true,
		"/": false, "herald": false, "/herald/": false, "//herald": false, "/a/../b": false, "/a.b": false, "/:user": false, "/*": false, "/a b": false, "/ä": false,
		"/" + strings.Repeat("a", 300): false,
	} {
		cfg := testConfig(nil)
		cfg.BasePath = value
		if err := cfg.Validate(); (err == nil) != ok || err != nil && !strings.Contains(err.Error(), "such as /herald") {
			t.Errorf("%q: %v", value, err)
		}
	}
}
