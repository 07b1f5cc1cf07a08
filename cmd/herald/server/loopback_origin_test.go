package server

import (
	"net/http"
	"testing"

	"herald/auth"
)

func TestLoopbackOrigins(t *testing.T) {
	for origin, want := range map[string]bool{
		"http://localhost": true, "http://localhost:3000": true, "https://localhost:5173": true, "http://127.0.0.1:8081": true,
		"http://127.1.2.3": true, "http://[::1]:3000": true, "https://[::1]": true,
		"": false, "null": false, "localhost:3000": false, "ftp://localhost": false, "http://": false,
		"http://localhost.evil.example": false, "http://127.0.0.1.evil.example": false, "http://notlocalhost": false, "http://evil.example:3000": false,
		"http://localhost@evil.example": false, "http://localhost:3000/": false, "http://evil.example/http://localhost": false,
		"http://10.0.0.1": false, "http://0.0.0.0:3000": false, "http://[::]:3000": false, "http://2130706433": false,
	} {
		if got := isLoopbackOrigin(origin); got != want {
			t.Errorf("%q: %v, want %v", origin, got, want)
		}
	}
}

// TestAllowLoopbackOrigins sends requests as browsers do for a page on another port of this machine, to servers
// with and without the setting.
func TestAllowLoopbackOrigins(t *testing.T) {
	const page, evil = "http://localhost:3000", "https://evil.example"
	for name, test := range map[string]struct {
		allowed              bool
		origin, method, path string
		status               int
	}{
		"opens a stream":              {true, page, http.MethodGet, "/events", 200},
		"publishes":                   {true, page, http.MethodPost, "/broadcast", 201},
		"asks who it is":              {true, page, http.MethodGet, "/session", 200},
		"foreign page opens a stream": {true, evil, http.MethodGet, "/events", 403},
		"foreign page publishes":      {true, evil, http.MethodPost, "/broadcast", 403},
		"without the setting":         {false, page, http.MethodGet, "/events", 403},
	} {
		t.Run(name, func(t *testing.T) {
			s := startSecured(t, func(cfg *Config) { cfg.AllowLoopbackOrigins = test.allowed })
			token := s.token(t, auth.Identity{User: "alice", Publish: true})
			site := headers("Cookie", "__Host-herald="+token, "Origin", test.origin, "Sec-Fetch-Site", "cross-site")
			status, header, body := request(t, test.method, s.url+test.path, site)
			readable := header.Get("Access-Control-Allow-Origin") == test.origin && header.Get("Access-Control-Allow-Credentials") == "true"
			if status != test.status || readable != (test.status < 300) {
				t.Errorf("%d %s, readable %v, want %d", status, body, readable, test.status)
			}
			preflight := headers("Origin", test.origin, "Access-Control-Request-Method", test.method)
			status, header, _ = request(t, http.MethodOptions, s.url+test.path, preflight)
			if got := status == http.StatusNoContent && header.Get("Access-Control-Allow-Origin") == test.origin; got != (test.status < 300) {
				t.Errorf("preflight: %d %v, want it allowed: %v", status, header, test.status < 300)
			}
		})
	}
}
