package server

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

// TestWrongPathsAndMethods asks for what the listeners do not have. The answer says what they have, in JSON with the
// code of the status, or as text on the admin listener.
func TestWrongPathsAndMethods(t *testing.T) {
	open, _ := startServerWith(t, func(cfg *Config) { cfg.Demo = true })
	closed := startSecured(t, func(cfg *Config) {
		cfg.EnablePublish = false
		cfg.FieldName = func(field string) string { return "--" + field }
	})
	all, some := "http://"+open.Addr().String(), closed.url
	const nothing = "there is nothing at this path"
	for _, test := range []struct {
		method, url string
		status      int
		want        string
	}{
		{http.MethodGet, all + "/event", 404, nothing + ", did you mean GET /events?"},
		{http.MethodGet, all + "/events/", 404, "did you mean GET /events?"},
		{http.MethodGet, all + "/Events", 404, "did you mean GET /events?"},
		{http.MethodGet, all + "/api/v1/events", 404, "did you mean GET /events?"},
		{http.MethodPost, all + "/event", 404, "did you mean GET /events?"},
		{http.MethodPost, all + "/users/alice/notification", 404, "did you mean POST /users/{user}/notifications?"},
		{http.MethodPost, all + "/user/alice/notifications", 404, "did you mean POST /users/{user}/notifications?"},
		{http.MethodPost, all + "/herald/users/alice/notifications", 404, "did you mean POST /users/{user}/notifications?"},
		{http.MethodPost, all + "/broadcasts", 404, "did you mean POST /broadcast?"},
		{http.MethodGet, all + "/stream", 404, nothing + ": this listener has POST /broadcast; GET /events; GET /herald-connection.js; GET /herald-share.js; GET /herald.js; POST /users/{user}/notifications"},
		{http.MethodGet, all + "/" + strings.Repeat("a/", 10_000), 404, nothing + ": this listener has"},
		{http.MethodGet, all + "/" + strings.Repeat("e", 10_000), 404, nothing + ": this listener has"},
		{http.MethodGet, all + "/debug/streams", 404, "/debug/streams is on the admin listener (AdminListen)"},
		{http.MethodGet, all + "/metrics", 404, "/metrics is on the admin listener (AdminListen)"},
		{http.MethodGet, all + "/session", 404, "this server authenticates nobody"},
		{http.MethodPatch, some + "/sessions", 404, "did you mean GET, POST or DELETE /session?"},
		{http.MethodDelete, some + "/sessions", 404, "did you mean DELETE /session?"},
		{http.MethodPost, some + "/broadcast", 404, "they need --EnablePublish"},
		{http.MethodPost, some + "/users/alice/notifications", 404, "they need --EnablePublish"},
		{http.MethodGet, some + "/", 404, "the stream is at /events, and the demo page needs --Demo"},
		{http.MethodPost, all + "/events", 405, "this path does not take this method: use GET"},
		{http.MethodHead, all + "/broadcast", 405, ""},
		{http.MethodGet, all + "/broadcast", 405, "use POST"},
		{http.MethodGet, all + "/users/alice/notifications", 405, "use POST"},
		{http.MethodPut, some + "/session", 405, "use DELETE, GET or POST"},
		{http.MethodPost, all + "/", 405, "use GET"},
		{http.MethodPost, some + "/herald.js", 405, "use GET"},
		{http.MethodGet, some + "/heral.js", 404, "did you mean GET /herald.js?"},
	} {
		status, header, body := request(t, test.method, test.url, nil)
		var answer struct{ Error errorBody }
		err := json.Unmarshal([]byte(body), &answer)
		code := map[int]string{404: "not-found", 405: "method-not-allowed"}[test.status]
		if test.method != http.MethodHead && (err != nil || answer.Error.Code != code) || status != test.status || !strings.Contains(answer.Error.Message, test.want) {
			t.Errorf("%s %.60s: %d %s, want %d, %s and %q", test.method, test.url, status, body, test.status, code, test.want)
		}
		if (header.Get("Allow") == "") != (test.status == http.StatusNotFound) {
			t.Errorf("%s %.60s: Allow %q", test.method, test.url, header.Get("Allow"))
		}
	}
	admin := "http://" + open.AdminAddr().String()
	for _, test := range []struct {
		method, path string
		status       int
		want, allow  string
	}{
		{http.MethodGet, "/events", 404, "this is the admin listener: /events is on the public one (Listen)", ""},
		{http.MethodPost, "/users/alice/notifications", 404, "/users/{user}/notifications is on the public one", ""},
		{http.MethodGet, "/", 404, "this is the admin listener", ""},
		{http.MethodGet, "/herald.js", 404, "/herald.js is on the public one (Listen)", ""},
		{http.MethodGet, "/metric", 404, "did you mean GET /metrics?", ""},
		{http.MethodGet, "/healthz", 404, "this listener has GET /livez; GET /readyz; GET /metrics; GET or DELETE /debug/streams", ""},
		{http.MethodPost, "/metrics", 405, "use GET", "GET, HEAD"},
		{http.MethodPost, "/debug/streams", 405, "use GET or DELETE", "GET, HEAD, DELETE"},
		{http.MethodGet, "/debug/stream", 404, "did you mean GET /debug/streams?", ""},
		{http.MethodHead, "/livez", 200, "", ""},
	} {
		status, header, body := request(t, test.method, admin+test.path, nil)
		if status != test.status || !strings.Contains(body, test.want) || header.Get("Allow") != test.allow {
			t.Errorf("admin %s %s: %d %v %s, want %d and %q", test.method, test.path, status, header, body, test.status, test.want)
		}
	}
}
