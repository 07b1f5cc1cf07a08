package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// limitedServer serves with so many connections at most. Its requests are under way until the client has
// gone, but for those of /short.
func limitedServer(t *testing.T, most int, start func(*httptest.Server)) (*httptest.Server, *limitedListener) {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).Flush()
		if r.URL.Path != "/short" {
			<-r.Context().Done()
		}
	}))
	listener := limitConnections(s.Listener, most)
	s.Listener, s.Config.ConnState, s.Config.ReadHeaderTimeout = listener, listener.connState, time.Minute
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	start(s)
	t.Cleanup(s.Close)
	t.Cleanup(s.CloseClientConnections)
	return s, listener
}

// ask sends a request and waits for the head of the answer.
func ask(conn net.Conn, path string, patience time.Duration) error {
	if _, err := io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		return err
	}
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err == nil && line != "HTTP/1.1 200 OK\r\n" {
		err = errors.New(line)
	}
	return err
}

// lives returns an error if the server has closed the connection.
func lives(conn net.Conn) error {
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if _, err := io.Copy(io.Discard, conn); !errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("the connection has ended: %v", err) //nolint:errorlint // nil is the end, too
	}
	return nil
}

// TestConnectionsAreBounded keeps requests under way, and wants the next one to be accepted when one of
// them has ended, and the listener to close while it is full.
func TestConnectionsAreBounded(t *testing.T) {
	s, listener := limitedServer(t, 2, (*httptest.Server).Start)
	address := listener.Addr().String()
	first, second := dial(t, address), dial(t, address)
	for _, conn := range []net.Conn{first, second} {
		if err := ask(conn, "/", 20*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	third := dial(t, address)
	if err := ask(third, "/", 200*time.Millisecond); err == nil {
		t.Error("a third connection was served, want two")
	}
	if err := lives(second); err != nil {
		t.Error(err)
	}
	_ = first.Close()
	_ = third.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := third.Read(make([]byte, 1)); err != nil {
		t.Errorf("when one has gone: %v, want an answer", err)
	}
	dial(t, address) // waits
	time.Sleep(50 * time.Millisecond)
	if err := s.Config.Close(); err != nil {
		t.Error(err)
	}
	await(t, "connections", 0, listener.connections)
}

// TestRoomByIdleness has a newcomer wait while all connections have requests under way, until one of them
// has no more.
func TestRoomByIdleness(t *testing.T) {
	release := make(chan struct{})
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" {
			_ = http.NewResponseController(w).Flush()
			<-release
		}
	}))
	listener := limitConnections(s.Listener, 1)
	s.Listener, s.Config.ConnState = listener, listener.connState
	s.Start()
	defer s.Close()
	if err := ask(dial(t, listener.Addr().String()), "/", 20*time.Second); err != nil {
		t.Fatal(err)
	}
	newcomer := dial(t, listener.Addr().String())
	time.Sleep(50 * time.Millisecond) // until it is accepted, most likely
	close(release)
	if err := ask(newcomer, "/short", 20*time.Second); err != nil {
		t.Error(err)
	}
}

// TestHalfOpenFlood fills the server with connections that send nothing, half a request, or nothing more,
// and wants each newcomer to get the place of the one that has waited longest, and nobody who has a
// request or a stream of HTTP/2 under way to be cut off.
func TestHalfOpenFlood(t *testing.T) {
	plain := func(s *httptest.Server) {
		s.Config.Protocols = protocols()
		s.Start()
	}
	secure := func(s *httptest.Server) {
		s.EnableHTTP2 = true
		s.StartTLS()
	}
	const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	for name, test := range map[string]struct {
		start func(*httptest.Server)
		begin string // what each connection of the flood sends
		idle  bool   // it has had an answer
	}{
		"nothing":            {plain, "", false},
		"half a line":        {plain, "GET /ev", false},
		"half a header":      {plain, "GET / HTTP/1.1\r\nHost: localhost\r\n", false},
		"kept alive":         {plain, "GET /short HTTP/1.1\r\nHost: localhost\r\n\r\n", true},
		"kept alive, half":   {plain, "GET /short HTTP/1.1\r\nHost: localhost\r\n\r\nGET / HTTP/1.1\r\n", true},
		"half HTTP/2":        {plain, preface[:10], false},
		"HTTP/2":             {plain, preface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00", true},
		"TLS, nothing":       {secure, "", false},
		"TLS, half of hello": {secure, "\x16\x03\x01\x02\x00\x01\x00\x01", false},
	} {
		t.Run(name, func(t *testing.T) {
			const most = 8
			s, listener := limitedServer(t, most, test.start)
			address := listener.Addr().String()
			transport := s.Client().Transport.(*http.Transport)
			if s.TLS == nil {
				transport.Protocols = new(http.Protocols)
				transport.Protocols.SetUnencryptedHTTP2(true)
			}
			get := func(path string) *http.Response {
				t.Helper()
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				t.Cleanup(cancel)
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+path, nil)
				if err != nil {
					t.Fatal(err)
				}
				res, err := s.Client().Do(req)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = res.Body.Close() })
				return res
			}
			stream := get("/") //nolint:bodyclose // as above
			if stream.ProtoMajor != 2 {
				t.Fatal(stream.Proto)
			}
			raw := func() net.Conn {
				conn := dial(t, address)
				if s.TLS != nil {
					conn = tls.Client(conn, &tls.Config{RootCAs: transport.TLSClientConfig.RootCAs, ServerName: "example.com", MinVersion: tls.VersionTLS12})
				}
				return conn
			}
			stays := raw()
			if err := ask(stays, "/", 20*time.Second); err != nil {
				t.Fatal(err)
			}
			var flood []net.Conn
			for range 2 * most {
				conn := dial(t, address)
				flood = append(flood, conn)
				if _, err := io.WriteString(conn, test.begin); err != nil {
					t.Fatal(err)
				}
				if test.idle {
					if _, err := conn.Read(make([]byte, 1000)); err != nil {
						t.Fatal(err)
					}
				}
			}
			await(t, "connections that gave way", most+2, func() int { return int(testutil.ToFloat64(listener.evicted)) })
			if n := listener.connections(); n != most {
				t.Errorf("%d connections, want %d", n, most)
			}
			newcomer := raw()
			if err := ask(newcomer, "/", 20*time.Second); err != nil {
				t.Errorf("a newcomer: %v", err)
			}
			await(t, "connections that gave way", most+3, func() int { return int(testutil.ToFloat64(listener.evicted)) })
			living := 0
			for i, conn := range flood {
				switch err := lives(conn); {
				case err == nil:
					living++
				case i >= most+3 && !test.idle: // an answer may be there before the connection counts as idle
					t.Errorf("connection %d of the flood: %v", i, err)
				}
			}
			if want := most - 3; living != want {
				t.Errorf("%d connections of the flood live, want %d", living, want)
			}
			for _, conn := range []net.Conn{stays, newcomer} {
				if err := lives(conn); err != nil {
					t.Error(err)
				}
			}
			ended := make(chan error, 1)
			go func() {
				_, err := stream.Body.Read(make([]byte, 1))
				ended <- err
			}()
			select {
			case err := <-ended:
				t.Errorf("the stream of HTTP/2 has ended: %v", err)
			case <-time.After(100 * time.Millisecond):
			}
		})
	}
}

// TestRoomIsNotMadeOfStreams opens streams on a server that has room for few connections while others
// crowd in: one that has begun to answer goes on.
func TestRoomIsNotMadeOfStreams(t *testing.T) {
	const streams = 50
	_, listener := limitedServer(t, streams+2, (*httptest.Server).Start)
	address := listener.Addr().String()
	ctx, stop := context.WithCancel(t.Context())
	var crowd sync.WaitGroup
	for range 4 {
		crowd.Go(func() {
			for ctx.Err() == nil {
				if conn, err := new(net.Dialer).DialContext(ctx, "tcp", address); err == nil {
					_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\n")
					time.Sleep(time.Millisecond)
					_ = conn.Close()
				}
			}
		})
	}
	var open []net.Conn
	for deadline := time.Now().Add(20 * time.Second); len(open) < streams; {
		conn := dial(t, address)
		if err := ask(conn, "/", 20*time.Second); err == nil { // else it gave way before
			open = append(open, conn)
		} else if time.Now().After(deadline) {
			t.Fatalf("%d streams: %v", len(open), err)
		}
	}
	time.Sleep(100 * time.Millisecond)
	stop()
	crowd.Wait()
	for i, conn := range open {
		if err := lives(conn); err != nil {
			t.Fatalf("stream %d: %v", i, err)
		}
	}
	if testutil.ToFloat64(listener.evicted) == 0 {
		t.Error("no connection gave way")
	}
}

// TestStreamsStayDirect wants a stream to need no goroutine, for which its connection has to be known
// as TCP's behind the limit, and its place to be given back.
func TestStreamsStayDirect(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("elsewhere a stream has a goroutine")
	}
	srv := startServer(t)
	connections := srv.publicListener.(*limitedListener).connections
	const streams = 100
	before := runtime.NumGoroutine()
	conns := make([]net.Conn, streams)
	for n := range conns {
		conns[n] = dial(t, srv.publicListener.Addr().String())
		_, _ = fmt.Fprintf(conns[n], "GET /events?user=u%d HTTP/1.1\r\nHost: localhost\r\n\r\n", n)
		if status, err := bufio.NewReader(conns[n]).ReadString('\n'); err != nil || !strings.Contains(status, " 200 ") {
			t.Fatalf("%q, %v", status, err)
		}
	}
	wait := func(what string, done func() bool) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: %d goroutines more, %d connections", what, runtime.NumGoroutine()-before, connections())
			}
		}
	}
	wait("100 idle streams", func() bool { return runtime.NumGoroutine() < before+streams/2 })
	if got := connections(); got != streams {
		t.Errorf("%d places taken, want %d", got, streams)
	}
	for _, conn := range conns {
		_ = conn.Close()
	}
	wait("all have gone", func() bool { return connections() == 0 })
}

// TestFewerStreamsThanAskedFor wants the log to say so.
func TestFewerStreamsThanAskedFor(t *testing.T) {
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	for _, within := range []int{0, 1} {
		if (&admissionFlags{MaxStreams: within}).warnOfFileLimit(logger); log.Len() > 0 {
			t.Errorf("--max-streams=%d: %s", within, &log)
		}
	}
	over := admissionFlags{MaxStreams: openFiles()}
	over.warnOfFileLimit(logger)
	if want := fmt.Sprintf("streams=%d", over.admission().Streams); !strings.Contains(log.String(), "level=WARN") || !strings.Contains(log.String(), want) {
		t.Errorf("%q, want a warning with %s", &log, want)
	}
}
