package stream

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// dial opens a stream and returns its connection after the checkpoint was read.
func dial(t *testing.T, url, version string) (net.Conn, *bufio.Reader) {
	t.Helper()
	address, path, _ := strings.Cut(strings.TrimPrefix(url, "http://"), "/")
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	_, _ = fmt.Fprintf(conn, "GET /%s HTTP/%s\r\nHost: h\r\n\r\n", path, version)
	return conn, bufio.NewReader(conn)
}

// readUntil reads up to and including the text.
func readUntil(t *testing.T, r *bufio.Reader, text string) (got string) {
	t.Helper()
	for !strings.Contains(got, text) {
		line, err := r.ReadString('\n')
		if got += line; err != nil {
			t.Fatalf("got %q, want %q: %v", got, text, err)
		}
	}
	return got
}

// TestGoneIsNoticed checks that a stream with nothing to write ends when its client closes the connection.
func TestGoneIsNoticed(t *testing.T) {
	s := serveWith(t, Config{Heartbeat: time.Hour}, (*httptest.Server).Start)
	for range 3 { // more than once, because the kernel gives a new connection a closed connection's file descriptor
		conn, r := dial(t, s.url+"alice", "1.1")
		readUntil(t, r, "checkpoint")
		if n := testutil.ToFloat64(s.hub.metrics.open); n != 1 {
			t.Errorf("%v streams are open, want 1", n)
		}
		_ = conn.Close()
		for deadline := time.Now().Add(10 * time.Second); testutil.ToFloat64(s.hub.metrics.open) > 0; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("the stream does not end")
			}
		}
	}
	s.awaitEnded(t, "client", 3) // a stream is counted after it is no longer open
	if n := s.ended("client"); n != 3 {
		t.Errorf("%v streams ended, want 3", n)
	}
}

// TestHead checks that the response has the headers of middleware and the framing of the client's HTTP
// version.
func TestHead(t *testing.T) {
	middleware := func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			c.Response().Header().Set("X-Middleware", "kept")
			c.Response().Header().Set("Content-Encoding", "gzip") // describes a body that the middleware would have written
			c.Response().Before(func() { c.Response().Header().Set("X-Before", "kept") })
			return next(c)
		}
	}
	for version, chunked := range map[string]bool{"1.1": true, "1.0": false} {
		s := serveWith(t, Config{}, (*httptest.Server).Start, middleware)
		_, r := dial(t, s.url+"alice", version)
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]string{
			"X-Middleware": "kept", "X-Before": "kept", "Content-Encoding": "", "Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-store, no-transform",
		} {
			if got := res.Header.Get(name); got != want {
				t.Errorf("HTTP/%s: %s is %q, want %q", version, name, got, want)
			}
		}
		if got := len(res.TransferEncoding) > 0; got != chunked || !res.Close {
			t.Errorf("HTTP/%s: chunked %t, the last on its connection %t", version, got, res.Close)
		}
		body := bufio.NewReader(res.Body)
		readUntil(t, body, "checkpoint")
		s.drain(t, 0)
		rest, err := io.ReadAll(body) // returns an error if the last chunk is missing
		if err != nil || !strings.HasSuffix(string(rest), "event: end\ndata: {\"reason\":\"draining\"}\n\n") {
			t.Errorf("HTTP/%s: it ends with %q, %v", version, rest, err)
		}
		_ = res.Body.Close()
	}
}

// TestOtherProtocols opens, resumes and ends a stream over HTTP/2 and over TLS, with and without [Detach].
func TestOtherProtocols(t *testing.T) {
	secure := func(s *httptest.Server) {
		s.EnableHTTP2 = true
		s.StartTLS()
	}
	for name, start := range map[string]func(*httptest.Server){
		"HTTP/1.1 over TLS":           (*httptest.Server).StartTLS,
		"HTTP/1.1 over TLS, detached": detach((*httptest.Server).StartTLS),
		"HTTP/2 over TLS":             secure,
		"HTTP/2 over TLS, detached":   detach(secure),
		"HTTP/2":                      overHTTP2(time.Minute),
		"HTTP/2, detached":            detach(overHTTP2(time.Minute)),
	} {
		t.Run(name, func(t *testing.T) {
			s := serveWith(t, Config{}, start)
			c := openWith(t, s.Client(), s.url+"alice", "")
			if e := c.next(); e.kind != TypeCheckpoint {
				t.Fatalf("the first event is %+v", e)
			}
			put(t, s.producer, "shared", "alice", "1")
			if e := c.nextButCheckpoint(); e.data != "1" {
				t.Errorf("got %+v", e)
			}
			_ = c.res.Body.Close()
			put(t, s.producer, "shared", "alice", strings.Repeat("2", 900<<10)) // larger than one write
			put(t, s.producer, "shared", "alice", "3")
			c = openWith(t, s.Client(), s.url+"alice", c.last)
			for _, want := range []string{strings.Repeat("2", 900<<10), "3"} {
				if e := c.nextButCheckpoint(); e.data != want {
					t.Errorf("got %d bytes, want %d", len(e.data), len(want))
				}
			}
			go s.drain(t, 0)
			if e := c.nextButCheckpoint(); e.kind != TypeEnd {
				t.Errorf("got %+v, want the end", e)
			}
			if c.scan.Scan() || c.scan.Err() != nil {
				t.Errorf("after the end: %q, %v", c.scan.Text(), c.scan.Err())
			}
		})
	}
}

// TestStalledConnection checks that the write time-out ends the stream of a client that is alive but reads
// nothing: its kernel acknowledges all packets. TCP_USER_TIMEOUT, which would count the client as gone, must
// not fire first.
func TestStalledConnection(t *testing.T) {
	const timeout = 6 * time.Second // TCP_USER_TIMEOUT is half as long again: it comes 3 s later, enough for a slow machine
	for name, start := range map[string]func(*httptest.Server){"plain": (*httptest.Server).Start, "TLS": (*httptest.Server).StartTLS} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // each waits for most of its time
			s := serveFlood(t, Config{Heartbeat: 100 * time.Millisecond, WriteTimeout: timeout, MaxQueue: 64 << 20}, start)
			c := openWith(t, s.Client(), s.url+"bob", "")
			c.next()
			put(t, s.producer, "shared", "bob", "ready") // once this arrives, the stream has caught up and takes live records
			c.nextButCheckpoint()
			begun := time.Now()
			s.flood(20) // more than the socket buffers of both sides hold
			s.awaitEnded(t, "write-timeout", 1)
			if took := time.Since(begun); took < timeout {
				t.Errorf("it was ended after %v, want %v at least", took, timeout)
			}
			if n := s.ended("client"); n > 0 {
				t.Errorf("%v streams were ended by the client", n)
			}
		})
	}
}
