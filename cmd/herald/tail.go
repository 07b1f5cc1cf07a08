package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
	"unicode"

	"herald/stream"
)

// tokenVariable is the environment variable with a bearer token for tail.
const tokenVariable = envPrefix + "_TOKEN"

const (
	defaultRetry = 2 * time.Second        // until the server says another reconnection time
	minRetry     = 100 * time.Millisecond // whatever the server says
	maxBackoff   = 30 * time.Second       // unless the server's reconnection time is longer
	maxRefusal   = 4 << 10                // bytes read of a refusal's body
)

type tailCommand struct {
	URL         string        `name:"url" default:"http://127.0.0.1:8080/events" placeholder:"URL" help:"Where the stream is. Without a path: /events. Default: ${default}."`
	User        string        `placeholder:"NAME" help:"Whose stream it is, for a server with --insecure-no-auth."`
	TokenFile   string        `placeholder:"FILE" help:"File with a bearer token, read again for each connection. Without it the variable HERALD_TOKEN has the token."`
	LastEventID string        `name:"last-event-id" placeholder:"ID" help:"Go on behind the event with this id. Default: begin with what comes now."`
	JSON        bool          `name:"json" help:"Print each event as one line of JSON with time, type, id and data."`
	All         bool          `help:"Print Herald's own events (checkpoint, gap, end) as well."`
	IdleTimeout time.Duration `default:"60s" placeholder:"DURATION" help:"Reconnect when not even a heartbeat arrives for so long; longer than the server's heartbeat interval. Default: ${default}."`
}

// Help implements kong.HelpProvider.
func (*tailCommand) Help() string {
	return `Example:

    herald tail --user alice
    herald tail --url https://herald.example --token-file alice.token`
}

// Validate implements kong.Validatable.
func (t *tailCommand) Validate() error {
	if t.IdleTimeout <= 0 {
		return fmt.Errorf("--idle-timeout=%v: want more than 0, such as 60s", t.IdleTimeout)
	}
	_, err := t.streamURL()
	return err
}

// Run implements the command. It ends with ctx, which is no error, or when the server refuses.
func (t *tailCommand) Run(ctx context.Context) error {
	u, err := t.streamURL()
	if err != nil {
		return err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableCompression = true
	defer transport.CloseIdleConnections()
	tl := &tailer{
		client: &http.Client{Transport: transport}, url: u, token: t.token(), idle: t.IdleTimeout,
		out: &eventPrinter{w: os.Stdout, json: t.JSON, all: t.All, now: time.Now}, notes: os.Stderr,
		lastID: t.LastEventID, retry: defaultRetry,
	}
	err = tl.run(ctx)
	if tl.lastID != "" {
		tl.note("the last event id is %s; to go on behind it add --last-event-id '%[1]s'", printable(tl.lastID))
	}
	return err
}

// parseStreamURL reads the address of a stream; without a path it is /events.
func parseStreamURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("--url %q is no address of a stream: want one like http://127.0.0.1:8080/events", text)
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/events"
	}
	return u, nil
}

// streamURL is the stream's address with the user in it.
func (t *tailCommand) streamURL() (string, error) {
	u, err := parseStreamURL(t.URL)
	if err != nil {
		return "", err
	}
	if t.User != "" {
		query := u.Query()
		query.Set("user", t.User)
		u.RawQuery = query.Encode()
	}
	return u.String(), nil
}

// token returns how to get the bearer token; it is empty if there is none.
func (t *tailCommand) token() func() (string, error) {
	return func() (string, error) {
		if t.TokenFile == "" {
			return os.Getenv(tokenVariable), nil
		}
		text, err := os.ReadFile(t.TokenFile)
		if err != nil {
			return "", fmt.Errorf("--token-file: %w", err)
		}
		return strings.TrimSpace(string(text)), nil
	}
}

// refusal is a reason not to try again.
type refusal struct{ error }

// errIdle says that a connection is taken for dead.
var errIdle = errors.New("no sign of life from the server")

// tailer follows one stream over any number of connections.
type tailer struct {
	client *http.Client
	url    string
	token  func() (string, error)
	idle   time.Duration
	out    *eventPrinter
	notes  io.Writer

	lastID string
	retry  time.Duration
}

func (t *tailer) note(format string, args ...any) {
	_, _ = fmt.Fprintf(t.notes, "herald tail: "+format+"\n", args...)
}

// run connects again and again until ctx ends or the server refuses for good.
func (t *tailer) run(ctx context.Context) error {
	for failures := 0; ; failures++ {
		opened, err := t.connect(ctx)
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

// backoff doubles the reconnection time for each failure in a row, and adds up to a half of it so
// that clients cut off together do not come back together.
func (t *tailer) backoff(failures int) time.Duration {
	wait := max(t.retry, minRetry)
	limit := max(wait, maxBackoff)
	for range failures {
		wait = min(2*wait, limit)
	}
	return wait + rand.N(wait/2) //nolint:gosec // jitter needs no secret
}

// connect follows one connection to its end, which always has an error. opened tells whether the
// stream began.
func (t *tailer) connect(ctx context.Context) (opened bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	alive := time.AfterFunc(t.idle, func() { cancel(fmt.Errorf("%w for %v", errIdle, t.idle)) })
	defer alive.Stop()

	req, err := t.request(ctx)
	if err != nil {
		return false, refusal{err}
	}
	res, err := t.client.Do(req) //nolint:bodyclose // closed below; the linter loses it in the closure
	if err != nil {
		return false, reason(ctx, err)
	}
	defer res.Body.Close()
	if err := accept(res); err != nil {
		return false, err
	}
	events := newEventReader(readerFunc(func(p []byte) (int, error) {
		n, err := res.Body.Read(p)
		alive.Reset(t.idle)
		return n, err
	}), t.lastID)
	for {
		e, err := events.next()
		t.lastID = events.lastID
		if events.retry != 0 {
			t.retry = events.retry
		}
		switch {
		case errors.Is(err, io.EOF):
			return true, errors.New("the stream ended")
		case errors.Is(err, errEventTooLarge):
			return true, refusal{err}
		case err != nil:
			return true, reason(ctx, err)
		}
		if err := t.show(e); err != nil {
			return true, refusal{err}
		}
	}
}

// reason prefers why we cancelled to what the network says about it.
func reason(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

func (t *tailer) request(ctx context.Context) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("Cache-Control", "no-store")
	token, err := t.token()
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

// accept returns an error unless the response is an event stream; a [refusal] where another try
// would have the same answer.
func accept(res *http.Response) error {
	kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	if res.StatusCode == http.StatusOK {
		if kind != "text/event-stream" {
			return refusal{fmt.Errorf("%s answers with %q, not with an event stream: is the URL right?", res.Request.URL.Redacted(), kind)}
		}
		return nil
	}
	err := fmt.Errorf("the server says %s%s", printable(res.Status), refusalText(res.Body))
	switch res.StatusCode {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return err
	case http.StatusBadRequest:
		if req := res.Request; !req.URL.Query().Has("user") && req.Header.Get("Authorization") == "" {
			err = fmt.Errorf("%w; with herald tail: add --user NAME", err)
		}
		return refusal{err}
	case http.StatusUnauthorized:
		return refusal{fmt.Errorf("%w: give a good token by --token-file or %s", err, tokenVariable)}
	case http.StatusNotFound:
		return refusal{fmt.Errorf("%w: is the path of --url right?", err)}
	}
	if res.StatusCode >= 500 {
		return err
	}
	return refusal{err}
}

// refusalText is the message of the server's JSON error, if there is one.
func refusalText(body io.Reader) string {
	var answer struct {
		Error struct{ Message string }
	}
	if err := json.NewDecoder(io.LimitReader(body, maxRefusal)).Decode(&answer); err != nil || answer.Error.Message == "" {
		return ""
	}
	return ": " + printable(answer.Error.Message)
}

// show prints an event; gaps and ends are told on the side in any case.
func (t *tailer) show(e event) error {
	switch e.Type {
	case "gap":
		t.note("gap: some events cannot be delivered: %s", printable(e.Data))
	case "end":
		t.note("the server closes the stream: %s", printable(e.Data))
		if strings.Contains(e.Data, string(stream.ErrTooMany)) {
			return errors.New("a newer stream of the same user took the place of this one")
		}
	}
	return t.out.print(e)
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
