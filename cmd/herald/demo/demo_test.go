package demo

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/labstack/echo/v4"
)

// newServer returns an Echo with the demo registered.
func newServer(d *Demo) *echo.Echo {
	e := echo.New()
	d.Register(e)
	return e
}

// get requests a path. A non-empty etag is sent as If-None-Match.
func get(t *testing.T, e *echo.Echo, method, path, etag string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, nil)
	if etag != "" {
		r.Header.Set("If-None-Match", etag)
	}
	w := httptest.NewRecorder()
	e.ServeHTTP(w, r)
	return w
}

func TestPageHeaders(t *testing.T) {
	e := newServer(New(&producer{}, nil, discard))
	for path, wantType := range map[string]string{
		"/":                 "text/html; charset=utf-8",
		"/demo/app.css":     "text/css; charset=utf-8",
		"/demo/app.js":      "text/javascript; charset=utf-8",
		"/demo/favicon.svg": "image/svg+xml",
	} {
		t.Run(path, func(t *testing.T) {
			w := get(t, e, http.MethodGet, path, "")
			if w.Code != http.StatusOK || w.Body.Len() == 0 {
				t.Fatalf("GET = %d with %d bytes, want 200 with some", w.Code, w.Body.Len())
			}
			h := w.Header()
			for name, want := range map[string]string{
				"Content-Type":           wantType,
				"Cache-Control":          "no-cache",
				"X-Content-Type-Options": "nosniff",
				"Referrer-Policy":        "no-referrer",
			} {
				if got := h.Get(name); got != want {
					t.Errorf("%s = %q, want %q", name, got, want)
				}
			}
			policy := h.Get("Content-Security-Policy")
			if !strings.HasPrefix(policy, "default-src 'self';") || strings.Contains(policy, "unsafe") || !strings.Contains(policy, "frame-ancestors 'none'") {
				t.Errorf("Content-Security-Policy = %q, want default-src 'self', no frames and nothing unsafe", policy)
			}
			if w := get(t, e, http.MethodGet, path, h.Get("Etag")); w.Code != http.StatusNotModified {
				t.Errorf("GET with the ETag %q = %d, want 304", h.Get("Etag"), w.Code)
			}
			if w := get(t, e, http.MethodHead, path, ""); w.Code != http.StatusOK || w.Body.Len() != 0 {
				t.Errorf("HEAD = %d with %d bytes, want 200 with none", w.Code, w.Body.Len())
			}
		})
	}
}

// TestPageKeepsItsPolicy looks for parts of the page that its own policy forbids.
// They look fine in a review and fail in the browser.
func TestPageKeepsItsPolicy(t *testing.T) {
	e := newServer(New(&producer{}, nil, discard))
	html := get(t, e, http.MethodGet, "/", "").Body.String()
	for name, pattern := range map[string]string{
		"inline script":        `<script(?:\s+type="module")?>`,
		"inline style":         `<style|\sstyle=`,
		"inline event handler": `\son[a-z]+=`,
		"another origin":       `(?:src|href)="(?:[a-z]+:|//)`,
	} {
		if found := regexp.MustCompile(pattern).FindString(html); found != "" {
			t.Errorf("index.html has an %s: %s", name, found)
		}
	}

	references := regexp.MustCompile(`(?:src|href)="([^"#]+)"`).FindAllStringSubmatch(html, -1)
	script := get(t, e, http.MethodGet, "/demo/app.js", "").Body.String()
	for _, found := range regexp.MustCompile(`from "\./([^"]+)"`).FindAllStringSubmatch(script, -1) {
		references = append(references, []string{"", "demo/" + found[1]})
	}
	if len(references) < 6 {
		t.Fatalf("found %d references in the page, want its style, scripts and icon", len(references))
	}
	for _, reference := range references {
		if w := get(t, e, http.MethodGet, "/"+reference[1], ""); w.Code != http.StatusOK {
			t.Errorf("the page refers to %s: %d, want 200", reference[1], w.Code)
		}
	}
}

// TestSignIn expects that a page with a permit function signs in, and that only a permitted user can
// start a task.
func TestSignIn(t *testing.T) {
	denied := echo.NewHTTPError(http.StatusForbidden, "not you")
	for name, permit := range map[string]func(echo.Context) (string, error){
		"nobody signs in": nil,
		"permitted":       func(echo.Context) (string, error) { return "alice", nil },
		"denied":          func(echo.Context) (string, error) { return "", denied },
	} {
		t.Run(name, func(t *testing.T) {
			p := &producer{}
			d := New(p, permit, discard)
			defer d.Close()
			e := newServer(d)
			if got := strings.Contains(get(t, e, http.MethodGet, "/", "").Body.String(), "<html data-sign-in "); got != (permit != nil) {
				t.Errorf("the page signs in: %v, want %v", got, permit != nil)
			}
			want := http.StatusAccepted
			if name == "denied" {
				want = http.StatusForbidden
			}
			if w := post(t, e, "application/json", goodTask); w.Code != want {
				t.Errorf("POST /demo/tasks = %d %s, want %d", w.Code, w.Body, want)
			}
			if got := len(p.reports(t)); (got > 0) != (want == http.StatusAccepted) {
				t.Errorf("%d records were written", got)
			}
		})
	}
}
