package server

import (
	"net/http"
	"strings"
	"testing"

	"herald/auth"
	"herald/cmd/herald/visible"
)

// TestForeignPagesAreExplained sends requests as browsers do for pages whose author has forgotten something. The log has
// one line that says what, with the page's origin. So does the answer, where the page's author can see it.
func TestForeignPagesAreExplained(t *testing.T) {
	const app, evil = "https://app.example", "https://evil.example"
	preflight := []string{"Access-Control-Request-Method", "GET", "Access-Control-Request-Headers", "authorization"}
	for name, test := range map[string]struct {
		method, path, origin, site string
		more                       []string // headers; CREDENTIALS stands for a valid token
		status                     int
		log, body                  []string
		not                        string // neither in the log nor in the body
	}{
		"a preflight": {
			http.MethodOptions, "/events", evil, "cross-site", preflight, 403,
			[]string{`msg="request refused" method=OPTIONS route=/events`, "origin=https://evil.example", "--allow-origin does not list the page's origin"},
			[]string{"--allow-origin lists"},
			"",
		},
		"a preflight without Sec-Fetch-Site": {
			http.MethodOptions, "/session", evil, "", preflight, 403,
			[]string{"method=OPTIONS route=/session", "origin=https://evil.example", "--allow-origin does not list"},
			[]string{"--allow-origin lists"},
			"",
		},
		"a preflight of a web view": {
			http.MethodOptions, "/session", "capacitor://localhost", "cross-site", preflight, 403,
			[]string{"origin=capacitor://localhost", "--allow-origin does not list"},
			[]string{"--allow-origin lists"},
			"",
		},
		"a notification": {
			http.MethodPost, "/broadcast", evil, "cross-site",
			[]string{"Cookie", "__Host-herald=CREDENTIALS"},
			403,
			[]string{"method=POST", "origin=https://evil.example", "--allow-origin does not list"},
			[]string{"--allow-origin lists"},
			"",
		},
		"a stream by the cookie": {
			http.MethodGet, "/events", evil, "same-site",
			[]string{"Cookie", "__Host-herald=CREDENTIALS"},
			403,
			[]string{"method=GET", "origin=https://evil.example", "--allow-origin does not list"},
			[]string{"--allow-origin lists"},
			"",
		},
		"an image": {
			http.MethodGet, "/events", "", "cross-site",
			[]string{"Cookie", "__Host-herald=CREDENTIALS"},
			403,
			[]string{"method=GET", "--allow-origin would have to list"},
			[]string{"--allow-origin lists"},
			"origin=",
		},
		"a sandboxed page": {
			http.MethodPost, "/broadcast", "null", "cross-site",
			[]string{"Cookie", "__Host-herald=CREDENTIALS"},
			403,
			[]string{"origin=null"},
			[]string{"--allow-origin lists"},
			"",
		},
		"no cookie, not listed": {
			http.MethodGet, "/events", evil, "", nil, 401,
			[]string{"origin=https://evil.example", "no token: the page, of another origin, sent no token", "the browser sent no session cookie", "--allow-origin must list"},
			[]string{`"no-token"`, "no session cookie", "--allow-origin must list"},
			"",
		},
		"no cookie, another site": {
			http.MethodGet, "/events", app, "cross-site", nil, 401,
			[]string{"origin=https://app.example", "localhost and 127.0.0.1 are two sites"},
			[]string{"localhost and 127.0.0.1 are two sites"},
			"withCredentials",
		},
		"no cookie, the same site": {
			http.MethodGet, "/events", app, "same-site", nil, 401,
			[]string{"origin=https://app.example", "withCredentials: true"},
			[]string{"withCredentials: true", `credentials: \"include\"`, "session: true in herald.js", "herald.js: the option token"},
			"127.0.0.1 are",
		},
		"no cookie, an unknown site": {
			http.MethodPost, "/broadcast", app, "", nil, 401,
			[]string{"origin=https://app.example", "withCredentials: true", "127.0.0.1 are"},
			[]string{"withCredentials: true"},
			"must list",
		},
		"no cookie, plain HTTP": {
			http.MethodGet, "/events", "http://app.test:8300", "", nil, 401,
			[]string{"origin=http://app.test:8300", "no session cookie: over plain HTTP browsers throw it away"},
			[]string{"use HTTPS, or a token"},
			"",
		},
		"no cookie, plain HTTP on loopback": {
			http.MethodGet, "/events", "http://localhost:3000", "same-site", nil, 401,
			[]string{"origin=http://localhost:3000"},
			[]string{"withCredentials: true"},
			"HTTPS",
		},
		"no cookie, own page": {
			http.MethodGet, "/events", "", "same-origin", nil, 401,
			[]string{"no token"},
			[]string{"the request has no token"},
			"withCredentials",
		},
		"a token without its scheme": {
			http.MethodGet, "/events", app, "same-site",
			[]string{"Authorization", "CREDENTIALS"},
			401,
			[]string{"no token: the header Authorization does not begin with the word Bearer"},
			[]string{`"no-token"`, "send Authorization: Bearer TOKEN"},
			"withCredentials",
		},
		"no token for a session": {
			http.MethodPost, "/session", app, "same-site", nil, 401,
			[]string{"no token", "origin=https://app.example"},
			[]string{"the request has no token"},
			"withCredentials",
		},
		"a stream that the page may not read": {
			http.MethodGet, "/events", evil, "cross-site",
			[]string{"Authorization", "Bearer CREDENTIALS"},
			200,
			[]string{`msg="stream opened, but the browser keeps it from the page" origin=https://evil.example`, "--allow-origin does not list"},
			nil, "refused",
		},
		"a hostile origin": {
			http.MethodPost, "/broadcast", "https://\u202e" + strings.Repeat("a", 10_000), "cross-site", nil, 403,
			[]string{`\u202eaaaa`},
			nil, strings.Repeat("a", visible.MaxExcerpt+1),
		},
		"an origin without characters": {
			http.MethodPost, "/broadcast", strings.Repeat("\x80", 10_000), "cross-site", nil, 403,
			[]string{`origin=\x80\x80`},
			[]string{"--allow-origin lists"},
			strings.Repeat(`\x80`, visible.MaxExcerpt+1),
		},
		"a preflight of a listed page":   {http.MethodOptions, "/session", app, "same-site", preflight, 204, nil, nil, "refused"},
		"a listed page opens a stream":   {http.MethodGet, "/events", app, "same-site", []string{"Cookie", "__Host-herald=CREDENTIALS"}, 200, nil, nil, "origin="},
		"OPTIONS that is no preflight":   {http.MethodOptions, "/events", evil, "cross-site", nil, 204, nil, nil, "refused"},
		"a program that sends no origin": {http.MethodGet, "/events", "", "", []string{"Authorization", "Bearer CREDENTIALS"}, 200, nil, nil, "origin="},
	} {
		t.Run(name, func(t *testing.T) {
			s := startSecured(t, func(cfg *Config) {
				cfg.AllowOrigin, cfg.FieldName = []string{app}, func(string) string { return "--allow-origin" }
			})
			token := s.token(t, auth.Identity{User: "alice", Publish: true})
			h := headers(test.more...)
			for _, values := range h {
				values[0] = strings.ReplaceAll(values[0], "CREDENTIALS", token)
			}
			if test.origin != "" {
				h.Set("Origin", test.origin)
			}
			if test.site != "" {
				h.Set("Sec-Fetch-Site", test.site)
			}
			status, _, body := request(t, test.method, s.url+test.path, h)
			log := s.log.String()
			if status != test.status {
				t.Errorf("%d %s, want %d", status, body, test.status)
			}
			for _, want := range test.log {
				if !strings.Contains(strings.ReplaceAll(log, `\"`, `"`), want) {
					t.Errorf("the log lacks %s:\n%s", want, log)
				}
			}
			for _, want := range test.body {
				if !strings.Contains(body, want) {
					t.Errorf("the answer lacks %s: %s", want, body)
				}
			}
			if test.not != "" && (strings.Contains(log, test.not) || strings.Contains(body, test.not)) {
				t.Errorf("%q is in the answer %s or in the log:\n%s", test.not, body, log)
			}
			if strings.Count(log, "msg=\"request refused\"") > 1 || strings.Contains(log, token) {
				t.Errorf("the log has more than one line, or the token:\n%s", log)
			}
		})
	}
}
