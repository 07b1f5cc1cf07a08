package server

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestOwnHost(t *testing.T) {
	for host, want := range map[string]bool{
		"localhost": true, "localhost:8080": true, "LocalHost.:80": true, "127.0.0.1:8080": true, "127.0.0.1": true, "[::1]:8080": true, "[::1]": true,
		"10.1.2.3": true, "": true, "rebind.example": false, "rebind.example:8080": false, "localhost.rebind.example": false, "127.0.0.1.rebind.example": false,
		"notlocalhost": false, "::rebind": false,
	} {
		if got := ownHost(host); got != want {
			t.Errorf("%q: %v, want %v", host, got, want)
		}
	}
}

// TestRebinding sends requests to servers on loopback, with a host name that a page on the web could point there.
// The listener without authentication and the admin listener refuse them.
func TestRebinding(t *testing.T) {
	open, secure := startServer(t), startSecured(t, nil)
	ask := func(address, host, path string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		res, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		text := make([]byte, 300)
		n, _ := res.Body.Read(text)
		return res.StatusCode, string(text[:n])
	}
	for name, test := range map[string]struct {
		address, host, path string
		want                int
	}{
		"a stream":              {open.Addr().String(), "rebind.example", "/events?user=alice", 421},
		"a stream by localhost": {open.Addr().String(), "localhost:1", "/events?user=alice", 200},
		"metrics":               {open.AdminAddr().String(), "rebind.example", "/metrics", 421},
		"metrics by address":    {open.AdminAddr().String(), "127.0.0.1", "/metrics", 200},
		"through a proxy":       {secure.Addr().String(), "herald.example", "/events", 401},
	} {
		if status, body := ask(test.address, test.host, test.path); status != test.want || status == 421 && !strings.Contains(body, "localhost") {
			t.Errorf("%s: %d %s, want %d", name, status, body, test.want)
		}
	}
}

// TestOtherHostsElsewhere sends requests with a host name to a server that listens on all addresses. The server
// accepts every name.
func TestOtherHostsElsewhere(t *testing.T) {
	srv, _ := startServerWith(t, func(s *Config) { s.Listen, s.AdminListen = "0.0.0.0:0", "0.0.0.0:0" })
	for _, handler := range []http.Handler{srv.public.Handler, srv.admin.Handler} {
		w := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://herald.example/nowhere", nil)
		if handler.ServeHTTP(w, r); w.Code != http.StatusNotFound {
			t.Errorf("%d %s, want 404", w.Code, w.Body)
		}
	}
}
