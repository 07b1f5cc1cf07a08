package main

import (
	"bufio"
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"herald/cmd/herald/listener"
)

// TestStreamsStayDirect wants a stream to need no goroutine, for which its connection has to be known
// as TCP's through the limit, and its place to be given back.
func TestStreamsStayDirect(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("elsewhere a stream has a goroutine")
	}
	srv := startServer(t)
	connections := srv.publicListener.(*listener.Limited).Open
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
	over := admissionFlags{MaxStreams: listener.OpenFiles()}
	over.warnOfFileLimit(logger)
	if want := fmt.Sprintf("streams=%d", over.admission().Streams); !strings.Contains(log.String(), "level=WARN") || !strings.Contains(log.String(), want) {
		t.Errorf("%q, want a warning with %s", &log, want)
	}
}
