// Package demo serves the page at / of `herald dev` and `herald serve --demo`, and
// runs the page's tasks.
//
// The page shows only events that it receives through GET /events. The answer to
// starting a task is the task's id and nothing else; every step of the task goes
// through Kafka. The package does not import Kafka or streams: its caller passes a
// Producer.
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

// contentSecurityPolicy limits the page to its own origin. It forbids inline
// scripts and styles, frames around the page, and (in Chromium) turning a string
// into markup.
const contentSecurityPolicy = "default-src 'self'; base-uri 'none'; form-action 'none'; " +
	"frame-ancestors 'none'; require-trusted-types-for 'script'"

// Message is one record to produce.
type Message struct {
	User  string // the recipient; empty: everyone
	Type  string // event type
	Value []byte // record value
}

// Producer writes a message to Kafka and returns when Kafka has confirmed it. Many
// goroutines call it at once.
type Producer interface {
	Produce(ctx context.Context, m Message) error
}

// Demo serves the page and runs its tasks. New returns one.
type Demo struct {
	producer Producer
	permit   func(echo.Context) (string, error) // nil: everybody is who they say
	log      *slog.Logger

	workers sync.WaitGroup
	mu      sync.Mutex // guards the fields below
	closed  bool
	running map[string]running // by task id
}

// running is a task that has not ended.
type running struct {
	by     string // the user or the address that started it
	cancel context.CancelFunc
}

// New returns a Demo whose tasks write their progress to p. permit returns the user
// of a request, or an error for a user who may not start tasks. With permit, the
// page signs in through /session and streams with the session's cookie. If permit
// is nil, nobody signs in, and the page itself names the user.
func New(p Producer, permit func(echo.Context) (string, error), log *slog.Logger) *Demo {
	return &Demo{producer: p, permit: permit, log: log, running: make(map[string]running)}
}

// Register adds GET /, GET of the page's files under /demo/, and POST /demo/tasks.
func (d *Demo) Register(e *echo.Echo) {
	for _, a := range assets(d.permit != nil) {
		e.Match([]string{http.MethodGet, http.MethodHead}, a.route, a.serve)
	}
	e.POST("/demo/tasks", d.postTask)
}

// Close refuses new tasks, cancels the running tasks and waits for them, for three
// seconds at most. Each task produces a last record that says it was cancelled, so
// close the Producer after Close. Close may be called more than once.
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

// assets returns the files of the page: index.html at /, the other files under
// /demo/. It panics if it cannot read a file, which does not happen with embedded
// files.
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

// serve answers with the file. Browsers store it and ask each time whether it is
// current (RFC 9111, no-cache), so the page of a new binary appears at once.
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

// contentType returns the media type of a file of the page. It does not use the
// mime package, whose answer depends on the machine's own tables.
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
