package tail

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"

	"herald/cmd/herald/visible"
	"herald/stream"
)

// TokenVariable is the environment variable that holds a bearer token for `herald tail`.
const TokenVariable = "HERALD_TOKEN"

const (
	defaultRetry = 2 * time.Second        // reconnection time until the server sets one
	minRetry     = 100 * time.Millisecond // the least reconnection time, even if the server sets less
	silentAfter  = 5 * time.Second        // a server that does not answer a request this long is worth a note
	maxBackoff   = 30 * time.Second       // the longest wait, unless the server's reconnection time is longer
)

// Config is what to follow and how to print it.
type Config struct {
	Client *http.Client
	URL    string // of the stream, with its query
	// Token returns the bearer token, or "" for none. It is called for each connection.
	Token func() (string, error)
	// LastEventID is the id to resume from. Empty: begin where the URL's query says.
	LastEventID string
	// IdleTimeout is how long a connection may be silent before the client reconnects.
	IdleTimeout time.Duration

	JSON  bool      // print each event as one line of JSON
	IDs   bool      // print the ids of events; JSON always has them
	All   bool      // print Herald's own events too
	Out   io.Writer // receives the events
	Notes io.Writer // receives a line for the start and for each reconnection, gap and end
}

// Run follows the stream until ctx ends, which is not an error, or until the server refuses it for good.
func Run(ctx context.Context, cfg Config) error {
	t := newTailer(cfg)
	err := t.run(ctx)
	t.noteEnd()
	return err
}

// noteEnd says how to continue, to a user who works with ids.
func (t *tailer) noteEnd() {
	if t.lastID != "" && (t.cfg.IDs || t.cfg.JSON || t.cfg.LastEventID != "") {
		if safeInShell(t.lastID) {
			t.note("the last event id is %s; to continue after it add --last-event-id '%[1]s'", t.lastID)
		} else { // not one of Herald's
			t.note("the last event id is %.200q", t.lastID)
		}
	}
}

// safeInShell says whether quotes make a text of the server a single word of a command line.
func safeInShell(text string) bool { return !strings.Contains(text, "'") && visible.Text(text) == text }

// errIdle says that a silent connection counts as dead.
var errIdle = errors.New("no sign of life from the server")

// tailer follows one stream over any number of connections.
type tailer struct {
	cfg Config
	out *eventPrinter

	lastID string
	retry  time.Duration
	opened bool // a stream was opened before
}

func newTailer(cfg Config) *tailer {
	return &tailer{
		cfg: cfg, out: &eventPrinter{w: cfg.Out, json: cfg.JSON, ids: cfg.IDs, all: cfg.All, now: time.Now},
		lastID: cfg.LastEventID, retry: defaultRetry,
	}
}

func (t *tailer) note(format string, args ...any) {
	_, _ = fmt.Fprintln(t.cfg.Notes, "herald tail:", visible.Text(fmt.Sprintf(format, args...)))
}

// noteOpened says that the first stream is open, and where it began: without events nothing else would show.
func (t *tailer) noteOpened() {
	t.opened = true
	u, err := url.Parse(t.cfg.URL)
	if err != nil {
		return // a request could not have been sent
	}
	since := cmp.Or(u.Query().Get("since"), "now")
	if t.lastID != "" {
		since = "the last event id"
	}
	t.note("following %s since %s; Ctrl-C ends it", withoutToken(u), since)
}

// withoutToken returns the address of a stream without the parts of it that may hold a token or a password.
func withoutToken(u *url.URL) string {
	query, shown := u.Query(), *u
	for name := range query {
		if name != "user" && name != "types" && !strings.HasPrefix(name, "claim.") {
			query.Del(name)
		}
	}
	shown.RawQuery = query.Encode()
	return shown.Redacted()
}

// run connects again and again until ctx ends or the server refuses for good.
func (t *tailer) run(ctx context.Context) error {
	for failures := 0; ; failures++ {
		opened, err := t.followConnection(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the user ended it
		}
		if stop, ok := errors.AsType[refusal](err); ok {
			return stop
		}
		if opened {
			failures = 0
		}
		wait := t.backoff(failures)
		t.note("%v; reconnecting in %v", err, wait.Round(10*time.Millisecond))
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// backoff returns how long to wait before the next connection. The wait is the reconnection time,
// doubled for each failure in a row, and up to a half of it more: clients whose connections broke
// together must not come back together.
func (t *tailer) backoff(failures int) time.Duration {
	wait := max(t.retry, minRetry)
	limit := max(wait, maxBackoff)
	for range failures {
		wait = min(2*wait, limit)
	}
	return wait + rand.N(wait/2) //nolint:gosec // jitter needs no secret
}

// followConnection opens one connection and follows it to its end. It always returns an error, which
// says why the connection ended. opened reports whether the stream began.
func (t *tailer) followConnection(ctx context.Context) (opened bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	idle := time.AfterFunc(t.cfg.IdleTimeout, func() { cancel(fmt.Errorf("%w for %v", errIdle, t.cfg.IdleTimeout)) })
	defer idle.Stop()

	req, err := t.newRequest(ctx)
	if err != nil {
		return false, refusal{err}
	}
	client := *t.cfg.Client
	// The request has a token, perhaps in its URL: another server must not get it, nor anybody on the way to an address
	// without TLS.
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	answered := t.noteSilence(req.URL)
	res, err := client.Do(req) //nolint:bodyclose // closed below; the linter loses it in the closure
	answered()
	if err != nil {
		return false, connectionError(ctx, err)
	}
	defer res.Body.Close()
	if err := checkResponse(res); err != nil {
		return false, err
	}
	again := t.opened
	if !again {
		t.noteOpened()
	}
	events := NewEventReader(readerFunc(func(p []byte) (int, error) {
		n, err := res.Body.Read(p)
		idle.Reset(t.cfg.IdleTimeout)
		return n, err
	}), t.lastID)
	for {
		e, err := events.Next()
		t.lastID = events.LastID()
		if retry := events.Retry(); retry != 0 {
			t.retry = retry
		}
		switch {
		case errors.Is(err, io.EOF):
			return true, errors.New("the stream ended")
		case errors.Is(err, ErrEventTooLarge):
			return true, refusal{err}
		case err != nil:
			return true, connectionError(ctx, err)
		}
		if again { // not before: while Herald is down, its proxy may answer with an empty stream
			t.note("connected again")
			again = false
		}
		if err := t.show(e); err != nil {
			return true, refusal{err}
		}
	}
}

// noteSilence notes that the server does not answer, unless the caller calls answered before silentAfter has passed.
func (t *tailer) noteSilence(u *url.URL) (answered func()) {
	noted := make(chan struct{})
	timer := time.AfterFunc(silentAfter, func() {
		defer close(noted)
		t.note("no answer from %s for %v; still waiting: is it the address of a Herald server?", withoutToken(u), silentAfter)
	})
	return func() {
		if !timer.Stop() {
			<-noted
		}
	}
}

func (t *tailer) newRequest(ctx context.Context) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.cfg.URL, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("Cache-Control", "no-store")
	token, err := t.cfg.Token()
	if err != nil {
		return nil, err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if t.lastID != "" {
		if strings.ContainsFunc(t.lastID, unicode.IsControl) {
			return nil, fmt.Errorf("the last event id %q has control characters and cannot be sent", t.lastID)
		}
		req.Header.Set("Last-Event-ID", t.lastID)
	}
	return req, nil
}

// show prints an event. It notes gaps and ends even if Herald's own events are not printed.
func (t *tailer) show(e Event) error {
	switch e.Type {
	case stream.TypeGap:
		t.note("gap: some events cannot be delivered: %s", e.Data)
	case stream.TypeEnd:
		t.note("the server closes the stream: %s", e.Data)
		if strings.Contains(e.Data, string(stream.ErrTooMany)) {
			return errors.New("a newer stream of the same user took the place of this one")
		}
	}
	return t.out.print(e)
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
