package demo

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

// newServer returns a handler with the demo's routes. Tasks are started by alice.
func newServer(d *Demo) http.Handler { return newServerFor(d, func() string { return "alice" }) }

// newServerFor is newServer for tasks that by names the starter of.
func newServerFor(d *Demo, by func() string) http.Handler {
	mux := http.NewServeMux()
	for path, file := range d.Files() {
		if path == "/" {
			path = "/{$}"
		}
		mux.Handle("GET "+path, file) // HEAD too
	}
	mux.HandleFunc("POST /demo/tasks", func(w http.ResponseWriter, r *http.Request) { d.StartTask(w, r, by()) })
	return mux
}

// get requests a path. A non-empty etag is sent as If-None-Match.
func get(t *testing.T, e http.Handler, method, path, etag string) *httptest.ResponseRecorder {
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
	e := newServer(New(&producer{}, checkName, false, discard))
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
	d := New(&producer{}, checkName, false, discard)
	e := newServer(d)
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
	for path := range d.Files() {
		if !strings.HasSuffix(path, ".js") {
			continue
		}
		script := get(t, e, http.MethodGet, path, "").Body.String()
		for _, found := range regexp.MustCompile(`from "\./([^"]+)"`).FindAllStringSubmatch(script, -1) {
			references = append(references, []string{"", "demo/" + found[1]})
		}
	}
	if len(references) < 12 {
		t.Fatalf("found %d references in the page, want its style, scripts and icon", len(references))
	}
	for _, reference := range references {
		if w := get(t, e, http.MethodGet, "/"+reference[1], ""); w.Code != http.StatusOK {
			t.Errorf("the page refers to %s: %d, want 200", reference[1], w.Code)
		}
	}
}

// TestSignIn wants the page to sign in if, and only if, the server asks for it.
func TestSignIn(t *testing.T) {
	for _, signIn := range []bool{false, true} {
		p := &producer{}
		d := New(p, checkName, signIn, discard)
		defer d.Close()
		e := newServer(d)
		if got := strings.Contains(get(t, e, http.MethodGet, "/", "").Body.String(), "<html data-sign-in "); got != signIn {
			t.Errorf("the page signs in: %v, want %v", got, signIn)
		}
		if w := post(t, e, "application/json", goodTask); w.Code != http.StatusAccepted {
			t.Errorf("POST /demo/tasks = %d %s, want 202", w.Code, w.Body)
		}
		if got := len(p.reports(t)); got == 0 {
			t.Error("no record was written")
		}
	}
}
