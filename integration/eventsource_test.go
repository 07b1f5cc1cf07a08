package integration

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"testing"
	"time"
)

// eventSource is a user's stream. It reads one event for each call, and its last event ID belongs to the last
// returned event, so a test can cut the connection at any point.
type eventSource struct {
	t      *testing.T
	url    string
	LastID string // sent as Last-Event-ID when connecting
	Token  string // sent as bearer token; empty: none
	tls    *tls.Config

	forwardedFor string // sent as X-Forwarded-For; empty: none
	reader       *eventReader
	stop         context.CancelFunc
	limit        int64 // bytes after which the connection is cut; 0: none
	dialer       net.Dialer

	patience time.Duration // how long a read waits for an event
}

// openStream opens the user's stream and reads up to its first checkpoint.
func openStream(t *testing.T, h *herald, user string) *eventSource {
	t.Helper()
	return openStreamAt(t, h.public, user)
}

func openStreamAt(t *testing.T, address, user string) *eventSource {
	t.Helper()
	s := newStream(t, address, user)
	s.Connect()
	s.Checkpoint()
	return s
}

// newStream returns a stream that is not connected yet.
func newStream(t *testing.T, address, user string) *eventSource {
	t.Helper()
	s := &eventSource{t: t, url: "http://" + address + "/events?user=" + url.QueryEscape(user), patience: patience}
	t.Cleanup(s.Cut)
	return s
}

// Connect sends the request, with the last event ID if there is one.
func (s *eventSource) Connect() {
	s.t.Helper()
	if err := s.connect(); err != nil {
		s.t.Fatal(err)
	}
}

func (s *eventSource) connect() error {
	s.Cut()
	ctx, cancel := context.WithCancel(s.t.Context())
	s.stop = cancel
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, nil)
	if err != nil {
		return fmt.Errorf("GET %s: %w", s.url, err)
	}
	request.Header.Set("Accept", "text/event-stream")
	if s.LastID != "" {
		request.Header.Set("Last-Event-ID", s.LastID)
	}
	if s.forwardedFor != "" {
		request.Header.Set("X-Forwarded-For", s.forwardedFor)
	}
	if s.Token != "" {
		request.Header.Set("Authorization", "Bearer "+s.Token)
	}
	// A new connection each time, as in a browser after a cut.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: s.dialer.DialContext, TLSClientConfig: s.tls, ForceAttemptHTTP2: s.tls != nil}}
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("GET %s: %w", s.url, err)
	}
	context.AfterFunc(ctx, func() { _ = response.Body.Close() })
	if kind := response.Header.Get("Content-Type"); response.StatusCode != http.StatusOK || kind != "text/event-stream; charset=utf-8" {
		return fmt.Errorf("GET %s = %s, Content-Type %q; want 200 and text/event-stream; charset=utf-8", s.url, response.Status, kind)
	}
	var body io.Reader = response.Body
	if s.limit > 0 {
		body = io.LimitReader(body, s.limit)
	}
	s.reader = &eventReader{r: bufio.NewReader(body), idBuffer: s.LastID}
	return nil
}

// Cut closes the connection.
func (s *eventSource) Cut() {
	if s.stop != nil {
		s.stop()
		s.stop = nil
	}
}

// Reconnect cuts the connection, connects again with the last event ID and reads the checkpoint.
func (s *eventSource) Reconnect() {
	s.t.Helper()
	s.Connect()
	s.Checkpoint()
}

// Checkpoint reads the checkpoint with which every stream begins.
func (s *eventSource) Checkpoint() {
	s.t.Helper()
	if e := s.Event(); e.Type != "checkpoint" || e.ID == "" {
		s.t.Fatalf("the stream begins with %+v, want a checkpoint with an id", e)
	}
}

// Event waits for the next event, whatever its type.
func (s *eventSource) Event() event {
	s.t.Helper()
	e, err := s.read()
	if err != nil {
		s.t.Fatalf("no event where one was expected: %v", err)
	}
	return e
}

// read returns the next event or an error: io.EOF where the stream ended.
func (s *eventSource) read() (event, error) {
	timer := time.AfterFunc(s.patience, s.stop)
	e, err := s.reader.next()
	if !timer.Stop() {
		return event{}, fmt.Errorf("no event in %s", s.patience)
	}
	if err == nil {
		s.LastID = e.ID
	}
	return e, err
}

// Record waits for the next record, past checkpoints. A gap or an end fails the test.
func (s *eventSource) Record() event {
	s.t.Helper()
	for {
		switch e := s.Event(); e.Type {
		case "checkpoint":
		case "gap", "end":
			s.t.Fatalf("got %+v where a record was expected", e)
		default:
			return e
		}
	}
}

// lossGap is the data of a gap event.
type lossGap struct {
	Source    string
	Partition int32
	From, To  int64
	Reason    string
}

// Gap waits for the next gap, past checkpoints. A record or an end fails the test.
func (s *eventSource) Gap() lossGap {
	s.t.Helper()
	for {
		switch e := s.Event(); e.Type {
		case "checkpoint":
		case "gap":
			var gap lossGap
			if err := json.Unmarshal([]byte(e.Data), &gap); err != nil {
				s.t.Fatalf("gap %q: %v", e.Data, err)
			}
			return gap
		default:
			s.t.Fatalf("got %+v where a gap was expected", e)
		}
	}
}

// Values waits for n records and returns their values.
func (s *eventSource) Values(n int) []string {
	s.t.Helper()
	values := make([]string, 0, n)
	for range n {
		values = append(values, s.Record().Data)
	}
	return values
}

// AwaitEnd reads to the end of the stream and returns the events that it read.
func (s *eventSource) AwaitEnd() []event {
	s.t.Helper()
	var events []event
	for {
		e, err := s.read()
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return events
		}
		if err != nil {
			s.t.Fatalf("the stream does not end: %v", err)
		}
		events = append(events, e)
	}
}
