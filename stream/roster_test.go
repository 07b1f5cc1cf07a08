package stream

import (
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"herald/consumer"
	"herald/consumer/batch"
)

// TestNewestStreamsOfAUser opens one more stream than a user may have. The oldest must end, with a
// reconnection time that keeps its client from replacing another stream.
func TestNewestStreamsOfAUser(t *testing.T) {
	s := serveWith(t, Config{Admission: Admission{PerUser: 2}}, (*httptest.Server).Start)
	_, oldest := dial(t, s.url+"alice", "1.1")
	readUntil(t, oldest, "checkpoint")
	others := []*client{open(t, s.url+"alice", ""), open(t, s.url+"bob", "")}
	newest := open(t, s.url+"alice", "")
	if got := readUntil(t, oldest, "0\r\n\r\n"); !strings.Contains(got, "retry: 3600000\n") || !strings.Contains(got, `{"reason":"too-many-streams"}`) {
		t.Errorf("the oldest stream ends with %q", got)
	}
	for _, c := range append(others, newest) {
		c.next()
		put(t, s.producer, "all", "", "for all")
		if e := c.nextButCheckpoint(); e.data != "for all" {
			t.Errorf("another stream got %+v", e)
		}
	}
	s.awaitEnded(t, "too-many-streams", 1) // a stream is counted after its last byte
	if n := s.ended("too-many-streams"); n != 1 {
		t.Errorf("%v streams were ended, want 1", n)
	}
}

// TestRefusals checks that a refused client gets a stream that ends at once. A native EventSource reconnects
// after that, and after no other answer.
func TestRefusals(t *testing.T) {
	direct := func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			c.Echo().IPExtractor = echo.ExtractIPDirect()
			return next(c)
		}
	}
	for name, limits := range map[string]Admission{
		"in all":        {Streams: 1},
		"of an address": {PerAddress: 1},
		"a second":      {OpensPerSecond: 0.01},
	} {
		t.Run(name, func(t *testing.T) {
			s := serveWith(t, Config{Admission: limits, Retry: time.Second}, (*httptest.Server).Start, direct)
			conn, first := dial(t, s.url+"alice", "1.1")
			readUntil(t, first, "checkpoint")
			_, second := dial(t, s.url+"bob", "1.1")
			got := readUntil(t, second, "}\n")
			var wait int
			_, after, _ := strings.Cut(got, "retry: ")
			if _, err := fmt.Sscan(after, &wait); err != nil || wait < 2500 || wait > 7500 {
				t.Errorf("the client is to come back in %d ms, want 2.5 to 7.5 s", wait)
			}
			if !strings.HasPrefix(got, "HTTP/1.1 200 OK\r\n") || !strings.Contains(got, "text/event-stream") || !strings.Contains(got, `{"reason":"busy"}`) {
				t.Errorf("the second stream got %q", got)
			}
			if n := testutil.ToFloat64(s.hub.metrics.refused.WithLabelValues("busy")); n != 1 {
				t.Errorf("%v refusals are counted, want 1", n)
			}
			_ = conn.Close()
			if name == "a second" {
				return
			}
			for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) { // until there is room again
				_, third := dial(t, s.url+"bob", "1.1")
				if strings.Contains(readUntil(t, third, "\ndata: "), "checkpoint") {
					return
				}
				if time.Now().After(deadline) {
					t.Fatal("no stream can be had after the first has ended")
				}
			}
		})
	}
}

// TestShortStreams opens and closes streams of one user as fast as possible. The server soon refuses that user, and
// serves another user.
func TestShortStreams(t *testing.T) {
	s := serveWith(t, Config{Admission: Admission{PerUser: 2}}, (*httptest.Server).Start)
	openAndClose := func(user string) (opened bool) {
		conn, r := dial(t, s.url+user, "1.1")
		got := readUntil(t, r, "data: ")
		_ = conn.Close()
		for testutil.ToFloat64(s.hub.metrics.open) > 0 {
			time.Sleep(time.Millisecond)
		}
		return strings.Contains(got, "checkpoint")
	}
	opened := 0
	for opened < 10*minShortStreams && openAndClose("alice") {
		opened++
	}
	if opened < minShortStreams || opened >= 10*minShortStreams {
		t.Errorf("the user opened %d streams, want at least %d and an end", opened, minShortStreams)
	}
	if !openAndClose("bob") {
		t.Error("another user gets no stream")
	}
}

// TestDrain checks that a drain ends many streams spread over the window, each after the events that waited for
// it, and refuses new streams meanwhile.
func TestDrain(t *testing.T) {
	const count, window = 300, time.Second
	s := serveWith(t, Config{}, (*httptest.Server).Start)
	var clients []*client
	for range count {
		c := open(t, s.url+"alice", "")
		c.next()
		clients = append(clients, c)
	}
	begun := time.Now()
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		s.drain(t, window)
	}()
	late := 0
	for _, c := range clients {
		if e := c.nextButCheckpoint(); e.kind != TypeEnd || e.data != `{"reason":"draining"}` {
			t.Errorf("got %+v, want the end", e)
		}
		if time.Since(begun) > window/4 {
			late++
		}
	}
	<-drained
	if late == 0 {
		t.Error("all streams ended in the first quarter of the window")
	}
	c := open(t, s.url+"alice", "")
	if e := c.next(); e.kind != TypeEnd || e.data != `{"reason":"draining"}` {
		t.Errorf("a new stream got %+v, want the end", e)
	}
	if n := testutil.ToFloat64(s.hub.metrics.ended.WithLabelValues("draining")); n != count {
		t.Errorf("%v streams are counted, want %d", n, count)
	}
}

// TestHeartbeats checks that a quiet stream gets heartbeats.
func TestHeartbeats(t *testing.T) {
	s := serveWith(t, Config{Heartbeat: 50 * time.Millisecond}, (*httptest.Server).Start)
	_, r := dial(t, s.url+"alice", "1.1")
	readUntil(t, r, "checkpoint")
	for range 3 {
		readUntil(t, r, ":\n")
	}
}

// TestExpiry checks that a stream ends shortly before its token expires.
func TestExpiry(t *testing.T) {
	s := serveWith(t, Config{Viewer: func(c echo.Context) (Viewer, error) {
		return Viewer{User: c.QueryParam("user"), Expires: time.Now().Add(2 * time.Second)}, nil
	}}, (*httptest.Server).Start)
	begun := time.Now()
	_, r := dial(t, s.url+"alice", "1.1")
	readUntil(t, r, `{"reason":"token-expired"}`)
	if after := time.Since(begun); after < 1700*time.Millisecond {
		t.Errorf("the stream ended after %v, want a tenth before the token's 2 s at the earliest", after)
	}
}

// some returns the data of the next events in alphabetical order, because the order across topics varies.
func some(c *client, n int) string {
	c.t.Helper()
	var got []string
	for len(got) < n {
		if e := c.next(); e.kind != TypeCheckpoint {
			got = append(got, e.data)
		}
	}
	slices.Sort(got)
	return strings.Join(got, " ")
}

// TestWhatAViewerMaySee has tokens that allow some event types and some broadcast topics. Streams must hold to
// them live and by replay, and ending one token's streams must end only those.
func TestWhatAViewerMaySee(t *testing.T) {
	s := serveWith(t, Config{Viewer: func(c echo.Context) (Viewer, error) {
		v := Viewer{User: c.QueryParam("user")}
		switch v.User {
		case "typed":
			v.Types, v.TokenID = []string{"a", "end-of-test"}, "1"
		case "apart":
			v.Topics = []string{}
		}
		return v, nil
	}}, (*httptest.Server).Start)
	header := func(kind string) consumer.Header { return consumer.Header{Key: "event-type", Value: []byte(kind)} }
	write := func() {
		for _, kind := range []string{"b", "a", "c"} {
			put(t, s.producer, "all", "", kind, header(kind))
		}
		for _, user := range []string{"typed", "apart"} {
			put(t, s.producer, "shared", user, "own", header("b"))
			put(t, s.producer, "shared", user, "last", header("end-of-test"))
		}
	}
	want := map[string]string{"typed": "a last", "typed&types=a,b,end-of-test": "a last", "typed&types=end-of-test": "last", "apart": "last own"}
	var streams []*client
	for user, events := range want {
		c := open(t, s.url+user, "")
		streams = append(streams, c)
		id := c.next().id
		defer func() {
			if got := some(open(t, s.url+user, id), len(strings.Fields(events))); got != events {
				t.Errorf("%s resumed: %q, want %q", user, got, events)
			}
		}()
	}
	write()
	i := 0
	for range want {
		query := strings.TrimPrefix(streams[i].res.Request.URL.RawQuery, "user=")
		if got := some(streams[i], len(strings.Fields(want[query]))); got != want[query] {
			t.Errorf("%s: %q, want %q", query, got, want[query])
		}
		i++
	}
	s.handler.EndTokens(ErrRevoked, []string{"apart"}, []string{"1", "2"}, func(v Viewer) bool { return v.TokenID == "1" })
	ended := 0
	for _, c := range streams {
		if !strings.Contains(c.res.Request.URL.RawQuery, "typed") {
			continue
		}
		if e := c.nextButCheckpoint(); e.kind != TypeEnd || e.data != `{"reason":"revoked"}` {
			t.Errorf("got %+v, want the end", e)
		}
		ended++
	}
	if ended != 3 {
		t.Errorf("%d streams ended, want 3", ended)
	}
}

// TestTopicThatAStreamHasNot delivers a record of a topic that could not be read when the stream began and can
// be read since.
func TestTopicThatAStreamHasNot(t *testing.T) {
	s := serveWith(t, Config{}, (*httptest.Server).Start)
	c := open(t, s.url+"alice", "")
	c.next()
	p := consumer.Partition{Topic: "new"}
	s.hub.Begin(p, [16]byte{9}, 0)
	s.hub.Deliver(p, []consumer.Record{{Record: batch.Record{Value: []byte("unexpected")}, User: []byte("alice")}}, 1)
	put(t, s.producer, "shared", "alice", "expected")
	if e := c.nextButCheckpoint(); e.data != "expected" {
		t.Errorf("got %+v", e)
	}
}
