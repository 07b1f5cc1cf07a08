// Package demo is the page that `herald dev` and `herald serve --demo` serve at /
// and the task worker behind it.
//
// The page shows only what reaches it through GET /events: starting a task
// answers with its id and nothing else, and every step of it takes the way
// through Kafka. The package knows neither Kafka nor streams; whoever wires it
// passes a Producer.
package demo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"path"
	"sync"
	"time"

	"github.com/labstack/echo/v4"
)

//go:embed page
var pageFS embed.FS

// contentSecurityPolicy lets the page load and call its own origin and nothing
// else, run no inline script or style, stand in no frame, and (Chromium) never
// turn a string into markup.
const contentSecurityPolicy = "default-src 'self'; base-uri 'none'; form-action 'none'; " +
	"frame-ancestors 'none'; require-trusted-types-for 'script'"

// Message is one record to produce.
type Message struct {
	User  string // who gets it; empty: everyone
	Type  string // event type
	Value []byte // record value
}

// Producer writes a message to Kafka and returns once Kafka has it. It is
// called by many goroutines at once.
type Producer interface {
	Produce(ctx context.Context, m Message) error
}

// Demo serves the page and runs its tasks. Make one with New.
type Demo struct {
	producer Producer
	permit   func(echo.Context) (string, error) // nil: everybody is who they say
	log      *slog.Logger

	workers sync.WaitGroup
	mu      sync.Mutex // guards the fields below
	closed  bool
	running map[string]running // by task id
}

// running is a task under way.
type running struct {
	by     string // who started it
	cancel context.CancelFunc
}

// New returns a Demo whose tasks report to p. permit says who asks, or why they
// may not start one; with it the page signs in through /session and streams by
// its cookie. Nil: nobody signs in, and the page says whose it is.
func New(p Producer, permit func(echo.Context) (string, error), log *slog.Logger) *Demo {
	return &Demo{producer: p, permit: permit, log: log, running: make(map[string]running)}
}

// Register adds GET / with what the page loads, and POST /demo/tasks.
func (d *Demo) Register(e *echo.Echo) {
	for _, a := range assets(d.permit != nil) {
		e.Match([]string{http.MethodGet, http.MethodHead}, a.route, a.serve)
	}
	e.POST("/demo/tasks", d.postTask)
}

// Close cancels the running tasks and waits for them: at most about three
// seconds, in which each produces that it was cancelled, so close the Producer
// afterwards. Later tasks are refused. Close may be called more than once.
func (d *Demo) Close() {
	d.mu.Lock()
	d.closed = true
	for _, r := range d.running {
		r.cancel()
	}
	d.mu.Unlock()
	d.workers.Wait()
}

// asset is one file of the page.
type asset struct {
	route   string
	name    string // its extension gives the Content-Type
	etag    string
	content []byte
}

// assets returns the files of the page: index.html at /, the others under
// /demo/. It panics if one cannot be read, which an embedded file always can.
func assets(signIn bool) []asset {
	entries, err := fs.ReadDir(pageFS, "page")
	if err != nil {
		panic(fmt.Sprintf("demo: read the embedded page: %v", err))
	}
	files := make([]asset, 0, len(entries))
	for _, entry := range entries {
		content, err := fs.ReadFile(pageFS, path.Join("page", entry.Name()))
		if err != nil {
			panic(fmt.Sprintf("demo: read the embedded page: %v", err))
		}
		route := "/demo/" + entry.Name()
		if entry.Name() == "index.html" {
			route = "/"
			if signIn {
				content = bytes.Replace(content, []byte("<html "), []byte("<html data-sign-in "), 1)
			}
		}
		sum := sha256.Sum256(content)
		files = append(files, asset{
			route:   route,
			name:    entry.Name(),
			etag:    `"` + hex.EncodeToString(sum[:12]) + `"`,
			content: content,
		})
	}
	return files
}

// serve answers with the file. Browsers keep it and ask each time whether it
// is still current (RFC 9111, no-cache), so a new binary's page shows at once.
func (a asset) serve(c echo.Context) error {
	h := c.Response().Header()
	h.Set("Cache-Control", "no-cache")
	h.Set("Content-Security-Policy", contentSecurityPolicy)
	h.Set("Etag", a.etag)
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	if t := contentType(a.name); t != "" {
		h.Set("Content-Type", t)
	}
	http.ServeContent(c.Response(), c.Request(), a.name, time.Time{}, bytes.NewReader(a.content))
	return nil
}

// contentType is the media type of a file of the page. It does not ask the
// mime package, which consults the machine's own tables.
func contentType(name string) string {
	switch path.Ext(name) {
	case ".html":
		return "text/html; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	}
	return ""
}
