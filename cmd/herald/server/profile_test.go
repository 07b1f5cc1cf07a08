package server

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestProfiles asks two servers for profiles, with and without --admin-pprof.
func TestProfiles(t *testing.T) {
	flags := func(cfg *Config) { cfg.FieldName = func(field string) string { return "--" + field } }
	with := newServer(t, newBroker(t), func(cfg *Config) { flags(cfg); cfg.AdminPprof = true })
	with.admin.ReadTimeout, with.admin.WriteTimeout = 2*time.Second, 2*time.Second // shorter than a profile takes
	run(t, with)
	without, _ := startServerWith(t, flags)
	const needs = "this server shows no profiles: they need --AdminPprof"
	for _, test := range []struct {
		server       *Server
		method, path string
		status       int
		want         string
	}{
		{with, http.MethodGet, "/debug/pprof", 307, "/debug/pprof/"},
		{with, http.MethodGet, "/debug/pprof/", 200, "heap"},
		{with, http.MethodGet, "/debug/pprof/goroutine?debug=1", 200, "goroutine profile: total"},
		{with, http.MethodGet, "/debug/pprof/heap", 200, "\x1f\x8b"},
		{with, http.MethodGet, "/debug/pprof/profile?seconds=3", 200, "\x1f\x8b"},
		{with, http.MethodGet, "/debug/pprof/nothing", 404, "Unknown profile"},
		{with, http.MethodPost, "/debug/pprof/heap", 405, "use GET"},
		{with, http.MethodGet, "/metric", 404, "did you mean GET /metrics?"},
		{with, http.MethodGet, "/healthz", 404, "GET or DELETE /debug/streams; GET /debug/pprof"},
		{without, http.MethodGet, "/debug/pprof", 404, needs},
		{without, http.MethodGet, "/debug/pprof/", 404, needs},
		{without, http.MethodGet, "/debug/pprof/profile?seconds=3", 404, needs},
		{without, http.MethodPost, "/debug/pprof/heap", 404, needs},
		{without, http.MethodGet, "/debug/prof", 404, needs},
	} {
		begun := time.Now()
		status, _, body := request(t, test.method, "http://"+test.server.AdminAddr().String()+test.path, nil)
		if status != test.status || !strings.Contains(body, test.want) {
			t.Errorf("%s %s: %d %.200q, want %d and %q", test.method, test.path, status, body, test.status, test.want)
		}
		if took := time.Since(begun); status == http.StatusOK && strings.Contains(test.path, "seconds=3") && took < 3*time.Second {
			t.Errorf("%s: cut off after %v", test.path, took)
		}
	}
	status, _, body := request(t, http.MethodGet, "http://"+with.Addr().String()+"/debug/pprof/", nil)
	if want := "/debug/pprof is on the admin listener (--AdminListen)"; status != 404 || !strings.Contains(body, want) {
		t.Errorf("the public listener: %d %s, want 404 and %q", status, body, want)
	}
}
