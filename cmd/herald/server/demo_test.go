package server

import (
	"net/http"
	"strings"
	"testing"

	"herald/auth"
)

// TestDemoTasks wants the page's tasks started by users who may publish, and by nobody else.
func TestDemoTasks(t *testing.T) {
	s := startSecured(t, func(cfg *Config) { cfg.Demo = true })
	const task = `{"user":"alice","name":"Quarterly report","seconds":1}`
	jsonType := func(h http.Header) http.Header {
		h.Set("Content-Type", "application/json")
		return h
	}
	may := jsonType(bearer(s.token(t, auth.Identity{User: "alice", Publish: true})))
	mayNot := jsonType(bearer(s.token(t, auth.Identity{User: "bob"})))
	for name, test := range map[string]struct {
		header http.Header
		status int
		want   string
	}{
		"nobody":       {jsonType(http.Header{}), http.StatusUnauthorized, `"code":"invalid-token"`},
		"may not":      {mayNot, http.StatusForbidden, `"code":"may-not-publish"`},
		"may":          {may, http.StatusAccepted, `"task":"`},
		"not JSON":     {bearer(s.token(t, auth.Identity{User: "alice", Publish: true})), http.StatusUnsupportedMediaType, `"code":"content-type"`},
		"another site": {jsonType(headers("Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site")), http.StatusForbidden, `"code":"foreign-origin"`},
	} {
		status, _, body := send(t, http.MethodPost, s.url+"/demo/tasks", task, test.header)
		if status != test.status || !strings.Contains(body, test.want) {
			t.Errorf("%s: %d %s, want %d with %s", name, status, body, test.status, test.want)
		}
	}
	if status, _, body := request(t, http.MethodGet, s.url+"/", nil); status != http.StatusOK || !strings.Contains(body, "<html data-sign-in ") {
		t.Errorf("GET /: %d %.100s, want the page that signs in", status, body)
	}
}
