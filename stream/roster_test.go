package stream

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// TestNewestStreamsOfAUser opens one more stream than a user may have: the oldest ends, with a
// reconnection time that keeps its client from driving out another.
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
		if e := c.next(); e.data != "for all" {
			t.Errorf("another stream got %+v", e)
		}
	}
	if n := testutil.ToFloat64(s.hub.metrics.ended.WithLabelValues("too-many-streams")); n != 1 {
		t.Errorf("%v streams were ended, want 1", n)
	}
}

// TestRefusals wants those who cannot have a stream now to get one that ends at once: a native
// EventSource comes back from that, and from nothing else.
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
			for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) { // there is room again
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

// TestDrain ends many streams within the window, some early and some late, each with what waited for
// it, and turns new ones away meanwhile.
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
		if e := c.next(); e.kind != typeEnd || e.data != `{"reason":"draining"}` {
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
	if e := c.next(); e.kind != typeEnd || e.data != `{"reason":"draining"}` {
		t.Errorf("a new stream got %+v, want the end", e)
	}
	if n := testutil.ToFloat64(s.hub.metrics.ended.WithLabelValues("draining")); n != count {
		t.Errorf("%v streams are counted, want %d", n, count)
	}
}

// TestHeartbeats wants signs of life on a quiet stream.
func TestHeartbeats(t *testing.T) {
	s := serveWith(t, Config{Heartbeat: 50 * time.Millisecond}, (*httptest.Server).Start)
	_, r := dial(t, s.url+"alice", "1.1")
	readUntil(t, r, "checkpoint")
	for range 3 {
		readUntil(t, r, ":\n")
	}
}

// TestExpiry ends a stream a little before its token does.
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
