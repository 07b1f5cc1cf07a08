package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestConnectionsAreBounded keeps connections alive that ask for nothing more, and wants the next one
// to be accepted when one of them is closed, and the listener to close while it is full.
func TestConnectionsAreBounded(t *testing.T) {
	tcp, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener := limitConnections(tcp, 2)
	server := &http.Server{Handler: http.NotFoundHandler(), ReadHeaderTimeout: time.Minute}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	ask := func(conn net.Conn, patience time.Duration) error {
		if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		_, err := conn.Read(make([]byte, 1))
		return err
	}
	address := tcp.Addr().String()
	first, second, third := dial(t, address), dial(t, address), dial(t, address)
	for _, conn := range []net.Conn{first, second} {
		if err := ask(conn, 20*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	if err := ask(third, 200*time.Millisecond); err == nil {
		t.Error("a third connection was served, want two")
	}
	_ = first.Close()
	_ = third.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := third.Read(make([]byte, 1)); err != nil {
		t.Errorf("when one has gone: %v, want an answer", err)
	}
	if err := server.Close(); err != nil {
		t.Error(err)
	}
	select {
	case err := <-ended:
		if !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the listener does not close while it is full")
	}
	for deadline := time.Now().Add(20 * time.Second); len(listener.places) > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d places are not given back", len(listener.places))
		}
	}
}

// TestStreamsStayDirect wants a stream to need no goroutine, for which its connection has to be known
// as TCP's behind the limit, and its place to be given back.
func TestStreamsStayDirect(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("elsewhere a stream has a goroutine")
	}
	srv := startServer(t)
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
				t.Fatalf("%s: %d goroutines more, %d connections", what, runtime.NumGoroutine()-before, len(srv.publicListener.(*limitedListener).places))
			}
		}
	}
	wait("100 idle streams", func() bool { return runtime.NumGoroutine() < before+streams/2 })
	if got := len(srv.publicListener.(*limitedListener).places); got < streams {
		t.Errorf("%d places taken, want %d", got, streams)
	}
	for _, conn := range conns {
		_ = conn.Close()
	}
	wait("all have gone", func() bool { return len(srv.publicListener.(*limitedListener).places) <= 1 }) // one is being waited for
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
