// Package demo is the page that `herald dev` and `herald serve --demo` serve at /
// and the worker that runs the page's tasks.
//
// The page uses the module /herald.js as any page would: each person on it has one stream by GET /events, which all
// tabs share. The answer to the start of a task has the task's id and nothing else; every step of the task travels
// through Kafka. After a cut and a reconnection of a person's stream, the page shows which records were missed and came
// later: cut.js compares the records that the page itself has written meanwhile, whose places in Kafka it knows from the
// answers, with the records that the stream brings.
//
// The page asks GET /demo/condition whether Kafka answers, because an open stream does not show that. If a task sends
// no news for five seconds although everything works, the page says so: the worker may have ended with its server.
//
// The package knows neither Kafka nor streams nor tokens: the server passes a
// Producer, the name of the user who starts a task, and its condition.
package demo

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"path"
	"sync"

	"herald/cmd/herald/webfile"
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

// ErrNoTopic says that no topic of the server takes a message for its user. A [Producer] returns it.
var ErrNoTopic = errors.New("no topic takes the message")

// Producer writes a message to Kafka and returns when Kafka has confirmed it. Many
// goroutines call it at once.
type Producer interface {
	Produce(ctx context.Context, m Message) error
}

// Demo serves the page and runs its tasks. New returns one.
type Demo struct {
	producer  Producer
	checkUser func(name string) error
	signIn    bool // the page signs in
	log       *slog.Logger

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

// New returns a Demo whose tasks report to p. With signIn the page signs in through
// /session and opens streams with the session cookie. Without it the page names the
// user itself. checkUser returns an error for a name that no user of the server can have; clients get its text.
func New(p Producer, checkUser func(name string) error, signIn bool, log *slog.Logger) *Demo {
	return &Demo{producer: p, checkUser: checkUser, signIn: signIn, log: log, running: make(map[string]running)}
}

// Files returns handlers of GET and HEAD for the page and the files that it loads,
// by path. The page is at /.
func (d *Demo) Files() map[string]http.Handler {
	files := make(map[string]http.Handler)
	for _, a := range assets(d.signIn) {
		files[a.route] = a
	}
	return files
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
	route string
	file  http.Handler
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
		files = append(files, asset{route, webfile.New(entry.Name(), content)})
	}
	return files
}

// ServeHTTP answers with the file and the page's policy.
func (a asset) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", contentSecurityPolicy)
	h.Set("Referrer-Policy", "no-referrer")
	a.file.ServeHTTP(w, r)
}
