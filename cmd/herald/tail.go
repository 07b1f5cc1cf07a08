package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
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
)

type tailCommand struct {
	URL         string        `name:"url" default:"http://127.0.0.1:8080/events" placeholder:"URL" help:"Where the stream is. Without a path: /events. Default: ${default}."`
	User        string        `placeholder:"NAME" help:"Whose stream it is, for a server with --insecure-no-auth."`
	TokenFile   string        `placeholder:"FILE" help:"File with a bearer token, read again for each connection. Without it the variable HERALD_TOKEN has the token."`
	LastEventID string        `name:"last-event-id" placeholder:"ID" help:"Go on behind the event with this id. Default: begin where --since says."`
	Since       string        `placeholder:"WHEN" help:"Begin at now, earliest, delivered, a time like 2026-01-31T08:00:00Z or an age like 90m. Default: now. An event id goes before it."`
	Types       []string      `placeholder:"TYPE" help:"Only events of these types, separated by commas; message is that of records without one. Default: all."`
	CAFile      string        `name:"ca-file" placeholder:"FILE" help:"PEM file of the authorities that sign the server's certificate. Default: those of the system."`
	JSON        bool          `name:"json" help:"Print each event as one line of JSON with time, type, id and data."`
	All         bool          `help:"Print Herald's own events (checkpoint, gap, end) as well."`
	IdleTimeout time.Duration `default:"60s" placeholder:"DURATION" help:"Reconnect when not even a heartbeat arrives for so long; longer than the server's heartbeat interval. Default: ${default}."`
}

// Help implements kong.HelpProvider.
func (*tailCommand) Help() string {
	return `Example:

    herald tail --user alice
    herald tail --user alice --since earliest --types news,message
    herald tail --url https://herald.example --token-file alice.token
    herald tail --url https://localhost:8443 --ca-file ca.pem --token-file alice.token`
}

// Validate implements kong.Validatable.
func (t *tailCommand) Validate() error {
	if t.IdleTimeout <= 0 {
		return fmt.Errorf("--idle-timeout=%v: want more than 0, such as 60s", t.IdleTimeout)
	}
	u, err := t.streamURL()
	if err == nil && t.CAFile != "" && !strings.HasPrefix(u, "https:") {
		return fmt.Errorf("--ca-file has no effect with --url %s: want an address that begins with https://", t.URL)
	}
	return err
}

// Run implements the command. It ends with ctx, which is no error, or when the server refuses.
func (t *tailCommand) Run(ctx context.Context) error {
	u, err := t.streamURL()
	if err != nil {
		return err
	}
	transport, err := t.transport()
	if err != nil {
		return err
	}
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

// transport is how to connect. The error is a [usageError].
func (t *tailCommand) transport() (*http.Transport, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableCompression = true
	if t.CAFile == "" {
		return transport, nil
	}
	roots, err := authorities("ca-file", t.CAFile)
	if err != nil {
		return nil, usageError{err}
	}
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
	return transport, nil
}

// streamURL is the stream's address with what is asked for in it.
func (t *tailCommand) streamURL() (string, error) {
	u, err := parseStreamURL(t.URL)
	if err != nil {
		return "", err
	}
	query := u.Query()
	for name, value := range map[string]string{"user": t.User, "since": t.Since, "types": strings.Join(t.Types, ",")} {
		if value != "" {
			query.Set(name, value)
		}
	}
	u.RawQuery = query.Encode()
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
