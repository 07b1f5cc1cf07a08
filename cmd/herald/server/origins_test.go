package server

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"herald/auth"
)

// TestOrigins sends requests as browsers do for pages of several origins, with the cookie and with the header.
func TestOrigins(t *testing.T) {
	const app, view, tenant = "https://app.example", "capacitor://localhost", "https://a.tenants.example"
	s := startSecured(t, func(cfg *Config) {
		cfg.AllowOrigin, cfg.AllowHeader = []string{app, view, "https://*.tenants.example"}, []string{"X-Request-ID"}
	})
	token := s.token(t, auth.Identity{User: "alice", Publish: true})
	own := s.url
	for name, test := range map[string]struct {
		method, path string
		origin, site string // headers of the browser
		cookie       bool
		status       int
		readable     bool // CORS lets the page read it
	}{
		"own page opens a stream":              {http.MethodGet, "/events", "", "same-origin", true, 200, false},
		"own page, old browser":                {http.MethodGet, "/events", "", "", true, 200, false},
		"own page publishes":                   {http.MethodPost, "/broadcast", own, "same-origin", true, 201, false},
		"address typed in":                     {http.MethodGet, "/events", "", "none", true, 200, false},
		"listed page opens a stream":           {http.MethodGet, "/events", app, "same-site", true, 200, true},
		"listed page publishes":                {http.MethodPost, "/broadcast", app, "same-site", true, 201, true},
		"listed page with its own token":       {http.MethodGet, "/events", app, "cross-site", false, 200, true},
		"web view opens a stream":              {http.MethodGet, "/events", view, "cross-site", true, 200, true},
		"web view publishes":                   {http.MethodPost, "/broadcast", view, "cross-site", false, 201, true},
		"web view asks who it is":              {http.MethodGet, "/session", view, "", true, 200, true},
		"tenant's page publishes":              {http.MethodPost, "/broadcast", tenant, "same-site", true, 201, true},
		"foreign web view publishes":           {http.MethodPost, "/broadcast", "ionic://localhost", "cross-site", true, 403, false},
		"foreign page below a tenant":          {http.MethodGet, "/events", "https://b.a.tenants.example", "same-site", true, 403, false},
		"foreign page above the tenants":       {http.MethodGet, "/events", "https://tenants.example", "same-site", true, 403, false},
		"foreign page opens a stream":          {http.MethodGet, "/events", "https://evil.example", "cross-site", true, 403, false},
		"foreign page, old browser":            {http.MethodGet, "/events", "https://evil.example", "", true, 403, false},
		"foreign page of the same site":        {http.MethodGet, "/events", "https://evil.app.example", "same-site", true, 403, false},
		"foreign page as an image":             {http.MethodGet, "/events", "", "cross-site", true, 403, false},
		"sandboxed page":                       {http.MethodGet, "/events", "null", "cross-site", true, 403, false},
		"listed name with another scheme":      {http.MethodGet, "/events", "http://app.example", "same-site", true, 403, false},
		"listed name with another port":        {http.MethodGet, "/events", app + ":8443", "same-site", true, 403, false},
		"listed name as a prefix":              {http.MethodGet, "/events", app + ".evil.example", "cross-site", true, 403, false},
		"listed name as a pattern":             {http.MethodGet, "/events", "https://appXexample", "cross-site", true, 403, false},
		"foreign page asks who it is":          {http.MethodGet, "/session", "https://evil.example", "cross-site", true, 403, false},
		"foreign page publishes":               {http.MethodPost, "/broadcast", "https://evil.example", "cross-site", true, 403, false},
		"foreign page with a token of its own": {http.MethodGet, "/events", "https://evil.example", "cross-site", false, 200, false},
	} {
		t.Run(name, func(t *testing.T) {
			h := bearer(token)
			if test.cookie {
				h = headers("Cookie", "__Host-herald="+token)
			}
			if test.origin != "" {
				h.Set("Origin", test.origin)
			}
			if test.site != "" {
				h.Set("Sec-Fetch-Site", test.site)
			}
			status, header, body := request(t, test.method, s.url+test.path, h)
			if status != test.status {
				t.Errorf("%d %s, want %d", status, body, test.status)
			}
			allowed, credentials := header.Get("Access-Control-Allow-Origin"), header.Get("Access-Control-Allow-Credentials")
			if test.readable && (allowed != test.origin || credentials != "true") || !test.readable && allowed+credentials != "" {
				t.Errorf("allowed to read: %q %q, want %v", allowed, credentials, test.readable)
			}
			if exposed := header.Get("Access-Control-Expose-Headers"); test.readable && exposed != "Retry-After,WWW-Authenticate" {
				t.Errorf("a page may read the headers %q", exposed)
			}
			if !slices.Contains(header.Values("Vary"), "Origin") {
				t.Errorf("Vary %q: a cache would give one origin's answer to another", header.Values("Vary"))
			}
		})
	}
	for name, test := range map[string]struct {
		origin, path string
		want         bool
	}{
		"listed, stream":  {app, "/events", true},
		"listed, publish": {app, "/users/alice/notifications", true},
		"listed, session": {app, "/session", true},
		"web view":        {view, "/session", true},
		"tenant":          {tenant, "/session", true},
		"below a tenant":  {"https://b.a.tenants.example", "/session", false},
		"foreign":         {"https://evil.example", "/events", false},
	} {
		status, header, _ := request(t, http.MethodOptions, s.url+test.path, headers("Origin", test.origin, "Sec-Fetch-Site", "cross-site",
			"Access-Control-Request-Method", "GET", "Access-Control-Request-Headers", "authorization,cache-control,last-event-id,sentry-trace"))
		allowed := header.Get("Access-Control-Allow-Headers")
		wantStatus := http.StatusForbidden
		if test.want {
			wantStatus = http.StatusNoContent
		}
		if status != wantStatus || (header.Get("Access-Control-Allow-Origin") == test.origin) != test.want {
			t.Errorf("preflight of %s: %d %v, want it allowed: %v", name, status, header, test.want)
		}
		for _, want := range []string{"Authorization", "Cache-Control", "Last-Event-ID", "baggage", "sentry-trace", "traceparent", "tracestate", "X-Request-ID"} {
			if slices.Contains(strings.Split(allowed, ","), want) != test.want {
				t.Errorf("preflight of %s: %s in %q, want %v", name, want, allowed, test.want)
			}
		}
	}
}
