package main

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
)

// TestReady asks servers that are ready, are not, are no admin listener, and do not answer.
func TestReady(t *testing.T) {
	srv, _ := startServer(t, devRoutes)
	answer := func(status int, text string) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/readyz" {
				status = http.StatusNotFound
			}
			w.WriteHeader(status)
			_, _ = io.WriteString(w, text)
		}))
		t.Cleanup(s.Close)
		return s.URL
	}
	strictly := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery == "strict" {
			http.Error(w, "kafka does not answer", http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, "ok, but kafka does not answer\n")
	}))
	t.Cleanup(strictly.Close)
	const foreign = "the answer is not one of Herald's admin listener: "
	for name, test := range map[string]struct {
		args []string
		code int
		want string
	}{
		"a server":           {[]string{"--admin=http://" + srv.AdminAddr().String()}, 0, ""},
		"strict":             {[]string{"--strict", "--admin=http://" + srv.AdminAddr().String() + "/"}, 0, ""},
		"the public address": {[]string{"--admin=http://" + srv.Addr().String()}, exitFailed, foreign + "404 Not Found"},
		"not ready":          {[]string{"--admin=" + answer(503, "kafka is\x1b away\n")}, exitFailed, `not ready: kafka is\x1b away`},
		"ready since":        {[]string{"--admin=" + strictly.URL}, 0, ""},
		"ready now":          {[]string{"--strict", "--admin=" + strictly.URL}, exitFailed, "not ready: kafka does not answer"},
		"another program":    {[]string{"--admin=" + answer(200, "<html>")}, exitFailed, foreign + "200 OK: <html>"},
		"a redirect":         {[]string{"--admin=" + answer(302, "")}, exitFailed, foreign + "302 Found"},
		"nobody":             {[]string{"--admin=http://127.0.0.1:1"}, exitFailed, "GET http://127.0.0.1:1/readyz: dial tcp 127.0.0.1:1: connect: connection refused: no server listens there"},
		"no socket":          {[]string{"--admin=unix:/nowhere"}, exitFailed, "no server listens there"},
		"no answer":          {[]string{"--timeout=100ms", "--admin=http://" + taken(t)}, exitFailed, "/readyz: no answer within "},
		"no URL":             {[]string{"--admin=localhost:8081"}, exitUsage, `--admin "localhost:8081": want a URL without a path`},
		"a path":             {[]string{"--admin=http://localhost:8081/readyz"}, exitUsage, "want a URL without a path"},
		"no time":            {[]string{"--timeout=0s"}, exitUsage, "--timeout=0s: want more than 0s"},
	} {
		if code, stderr := start(t, with([]string{"ready", "--timeout=20s"}, test.args...)...); code != test.code || !strings.Contains(stderr, test.want) {
			t.Errorf("%s: exit code %d, %q, want %d and %q", name, code, stderr, test.code, test.want)
		}
	}
}

// TestReadyBySocket asks an admin listener on a unix socket, which HERALD_ADMIN_LISTEN names.
func TestReadyBySocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "admin.sock")
	l, err := new(net.ListenConfig).Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { //nolint:gosec // a test's own client
		_, _ = io.WriteString(w, "ok")
	})}}
	s.Start()
	t.Cleanup(s.Close)
	t.Setenv(adminListenVariable, "unix:"+path)
	if code, stderr := start(t, "ready"); code != 0 {
		t.Errorf("exit code %d, %q, want 0", code, stderr)
	}
}

// TestAdminAddress finds the admin listener from the address on which it listens.
func TestAdminAddress(t *testing.T) {
	for listen, want := range map[string]string{
		"":               "http://127.0.0.1:8081",
		"0.0.0.0:9":      "http://127.0.0.1:9",
		":9":             "http://127.0.0.1:9",
		"[::]:9":         "http://[::1]:9",
		"10.0.0.1:9":     "http://10.0.0.1:9",
		"unix:/run/a":    "unix:/run/a",
		"systemd":        "error: HERALD_ADMIN_LISTEN=\"systemd\" does not say where the admin listener is: give --admin URL",
		"localhost:8081": "http://localhost:8081",
	} {
		t.Setenv(adminListenVariable, listen)
		got, err := new(adminFlags).address()
		if err != nil {
			got = "error: " + err.Error()
		}
		if got != want {
			t.Errorf("%s=%s: %s, want %s", adminListenVariable, listen, got, want)
		}
	}
}
