package stream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// frames is a client's HTTP/2 connection, frame by frame.
type frames struct {
	*http2.Framer
	t      *testing.T
	conn   *net.TCPConn
	block  bytes.Buffer
	fields *hpack.Encoder
	last   uint32 // the last stream's number
}

// openFrames connects with a window that lets each stream have that many bytes.
func openFrames(t *testing.T, s *site, window uint32) *frames {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	c := &frames{Framer: http2.NewFramer(conn, conn), t: t, conn: conn.(*net.TCPConn)}
	c.fields = hpack.NewEncoder(&c.block)
	_, err = fmt.Fprint(conn, http2.ClientPreface)
	c.check(errors.Join(err, c.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: window})))
	return c
}

func (c *frames) check(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// get requests a path, and returns the number of the stream.
func (c *frames) get(path string) uint32 {
	c.t.Helper()
	c.block.Reset()
	for _, f := range [][2]string{{":method", "GET"}, {":scheme", "http"}, {":authority", "h"}, {":path", path}} {
		c.check(c.fields.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}))
	}
	c.last = (c.last + 1) | 1 // clients have the odd numbers
	c.check(c.WriteHeaders(http2.HeadersFrameParam{StreamID: c.last, BlockFragment: c.block.Bytes(), EndStream: true, EndHeaders: true}))
	return c.last
}

// next returns the next frame of that kind, and drops the others.
func next[F http2.Frame](c *frames) F {
	c.t.Helper()
	for {
		f, err := c.ReadFrame()
		c.check(err)
		if f, ok := f.(F); ok {
			return f
		}
	}
}

// readUntil reads the streams' data up to the frame in which the text ends.
func (c *frames) readUntil(text string) {
	c.t.Helper()
	for got := ""; !strings.Contains(got, text); {
		got += string(next[*http2.DataFrame](c).Data())
	}
}

// countHandlers returns the number of goroutines of HTTP/2 requests.
func countHandlers() int {
	stacks := make([]byte, 4<<20)
	return strings.Count(string(stacks[:runtime.Stack(stacks, true)]), ").runHandler(")
}

// TestUntakenAnswers takes nothing of the answers to requests that open no stream. Each must end when the time is up,
// and the connection must continue to serve other requests.
func TestUntakenAnswers(t *testing.T) {
	const timeout, requests = 2 * time.Second, 50 // all requests must wait before the time of the first is up
	s := serveWith(t, Config{Heartbeat: time.Hour}, func(s *httptest.Server) {
		s.Config.Handler = Detach(s.Config.Handler, timeout)
		overHTTP2(time.Minute)(s)
	})
	c := openFrames(t, s, 0)
	next[*http2.SettingsFrame](c)
	begun := time.Now()
	for range requests {
		c.get("/nothing")
	}
	for range requests {
		next[*http2.HeadersFrame](c)
	}
	if n := countHandlers(); n != requests {
		t.Errorf("%d requests have a goroutine, want %d", n, requests)
	}
	for range requests {
		next[*http2.RSTStreamFrame](c)
	}
	if took := time.Since(begun); took < timeout {
		t.Errorf("the answers ended after %v, want %v at least", took, timeout)
	}
	for deadline := time.Now().Add(10 * time.Second); countHandlers() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d requests still have a goroutine", countHandlers())
		}
	}
	stream := c.get("/nothing")
	c.check(c.WriteWindowUpdate(stream, 1000))
	if f := next[*http2.DataFrame](c); f.StreamID != stream || !strings.Contains(string(f.Data()), "Not Found") {
		t.Errorf("with a window, stream %d gets %q", f.StreamID, f.Data())
	}
}

// TestStalledStreamOverHTTP2 has a client take nothing of some of its streams. Its other stream, and the streams of
// other clients, must get their records at once.
func TestStalledStreamOverHTTP2(t *testing.T) {
	s := serveWith(t, Config{Heartbeat: time.Hour}, detach(overHTTP2(time.Minute)))
	c := openFrames(t, s, 0)
	for range 50 {
		c.get("/events?user=alice")
	}
	taken := c.get("/events?user=bob")
	c.check(c.WriteWindowUpdate(taken, 1<<20))
	carol := openWith(t, s.Client(), s.url+"carol", "")
	carol.next()
	c.readUntil("checkpoint")
	for n := range 10 {
		want := fmt.Sprint("number ", n)
		for _, user := range []string{"alice", "bob", "carol"} {
			put(t, s.producer, "shared", user, want)
		}
		if e := carol.nextButCheckpoint(); e.data != want {
			t.Errorf("carol got %+v, want %s", e, want)
		}
		for text := ""; !strings.Contains(text, want); { // after a checkpoint, perhaps
			f := next[*http2.DataFrame](c)
			if f.StreamID != taken {
				t.Fatalf("stream %d got %q, want %s on %d", f.StreamID, f.Data(), want, taken)
			}
			text += string(f.Data())
		}
	}
}

// TestEndsOverHTTP2 wants the metric to distinguish clients that do not take their streams' bytes from clients that
// reset their streams.
func TestEndsOverHTTP2(t *testing.T) {
	const streams = 50
	for name, test := range map[string]struct {
		window  uint32
		timeout time.Duration
		label   string
	}{"untaken": {0, 300 * time.Millisecond, endWriteTimeout}, "reset": {1 << 20, time.Minute, endClient}} {
		t.Run(name, func(t *testing.T) {
			s := serveWith(t, Config{Heartbeat: 10 * time.Millisecond, WriteTimeout: test.timeout}, detach(overHTTP2(time.Minute)))
			c := openFrames(t, s, test.window)
			for range streams {
				c.get("/events?user=alice")
			}
			for deadline := time.Now().Add(10 * time.Second); testutil.ToFloat64(s.hub.metrics.opened.WithLabelValues(startNow)) < streams && time.Now().Before(deadline); {
				time.Sleep(time.Millisecond)
			}
			for n := uint32(1); n < 2*streams && test.label == endClient; n += 2 {
				c.check(c.WriteRSTStream(n, http2.ErrCodeCancel))
			}
			s.awaitEnded(t, test.label, streams)
			for _, label := range []string{endWriteTimeout, endClient, endError} {
				if n := s.ended(label); label != test.label && n > 0 {
					t.Errorf("%v streams ended by %s, want all by %s", n, label, test.label)
				}
			}
		})
	}
}

// TestChatter sends a megabyte after the request for a stream. The kernel must take little of it, and the stream must
// continue.
func TestChatter(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("elsewhere Herald reads what a client sends, and ends the stream after 64 KiB")
	}
	for name, start := range map[string]func(*httptest.Server){"plain": (*httptest.Server).Start, "TLS": (*httptest.Server).StartTLS} {
		t.Run(name, func(t *testing.T) {
			s := serveWith(t, Config{Heartbeat: time.Hour}, start)
			var conn net.Conn
			s.Client().Transport.(*http.Transport).DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
				var err error
				conn, err = new(net.Dialer).DialContext(ctx, network, address)
				return conn, err
			}
			c := openWith(t, s.Client(), s.url+"alice", "")
			c.next()
			if err := errors.Join(conn.(*net.TCPConn).SetWriteBuffer(4<<10), conn.SetWriteDeadline(time.Now().Add(time.Second))); err != nil {
				t.Fatal(err)
			}
			n, err := io.Copy(conn, io.LimitReader(strings.NewReader(strings.Repeat("x", 1<<20)), 1<<20))
			if !errors.Is(err, os.ErrDeadlineExceeded) || n > 80<<10 {
				t.Errorf("%d bytes were taken, %v; want 80 KiB at the most", n, err)
			}
			put(t, s.producer, "shared", "alice", "still there")
			if e := c.nextButCheckpoint(); e.data != "still there" {
				t.Errorf("got %+v", e)
			}
			if n := testutil.ToFloat64(s.hub.metrics.open); n != 1 {
				t.Errorf("%v streams are open, want 1", n)
			}
		})
	}
}
