package server

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"herald/cmd/herald/tail"
)

// TestStreamsStayDirect opens streams. They need no goroutines, because the limited listener passes TCP
// connections on, and they give their places back when they end.
func TestStreamsStayDirect(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("elsewhere a stream has a goroutine")
	}
	srv := startServer(t)
	connections := srv.limited.Open
	const streams = 100
	before := runtime.NumGoroutine()
	conns := make([]net.Conn, streams)
	for n := range conns {
		conns[n] = dial(t, srv.Addr().String())
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
	wait("all streams closed", func() bool { return connections() == 0 })
}

// TestOperatingListsEveryMetric compares the metrics that a server exports with the table of
// deploy/OPERATING.md: each has a row, which has its help text.
func TestOperatingListsEveryMetric(t *testing.T) {
	srv := startServer(t)
	public := "http://" + srv.Addr().String()
	call(t, http.MethodPost, public+"/users/alice/notifications", "x") // gives every label a value
	_, text := call(t, http.MethodGet, "http://"+srv.AdminAddr().String()+"/metrics", "")
	for _, line := range []string{`herald_http_refusals_total{reason="origin"} 0`, `herald_http_published_total{result="refused"} 0`} {
		if !strings.Contains(text, line) {
			t.Errorf("no %s from the start", line)
		}
	}
	if want := "herald_http_publish_duration_seconds_count 1\n"; !strings.Contains(text, want) {
		t.Errorf("no %s after a notification", want)
	}
	if none := "herald_kafka_connections 0\n"; strings.Contains(text, none) {
		t.Errorf("%s although Kafka was written to", none)
	}
	wantMetricsInOperating(t, text)
}

// wantMetricsInOperating wants a row of deploy/OPERATING.md for each metric of the text.
func wantMetricsInOperating(t *testing.T, text string) {
	t.Helper()
	document, err := os.ReadFile("../../../deploy/OPERATING.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(line, "# HELP herald_")
		if !ok {
			continue
		}
		found++
		name, help, _ := strings.Cut(strings.TrimSpace(rest), " ")
		if row := "| `herald_" + name + "` | " + help + " |"; !strings.Contains(string(document), row) {
			t.Errorf("deploy/OPERATING.md lacks the row %q", row)
		}
	}
	if found < 10 {
		t.Errorf("only %d metrics in\n%s", found, text)
	}
}

// TestNetHTTPLogIsBounded has net/http log 400 lines at once. One of them reaches the log, and it is not about a client
// that does not speak the protocol.
func TestNetHTTPLogIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var text bytes.Buffer
		log := newHTTPServer(nil, slog.New(slog.NewTextHandler(&text, nil))).ErrorLog
		for range 100 {
			log.Print("http: TLS handshake error from somebody")
			log.Print("http2: server: error reading preface from somebody")
			log.Print("http2: server connection error from somebody: connection error: PROTOCOL_ERROR")
			log.Print("http2: panic serving somebody")
		}
		if got := text.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "panic") {
			t.Errorf("400 lines make %q, want one, of the panic", got)
		}
		time.Sleep(time.Second)
		if log.Print("another"); strings.Count(text.String(), "\n") != 2 {
			t.Errorf("after a second: %q, want another line", &text)
		}
	})
}

// TestSlowRequests sends a request that does not end. The server closes its connection in time; a stream lives
// longer than that time.
func TestSlowRequests(t *testing.T) {
	srv := startImpatient(t, func(*Config) {})
	address := srv.Addr().String()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // a test's
	if _, err := io.WriteString(conn, "POST /broadcast HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nab"); err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/events?user=alice", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if err := conn.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if answer, err := io.ReadAll(conn); err != nil || strings.Contains(string(answer), "201") {
		t.Errorf("a body that does not end: %q, %v, want it refused and the connection closed", answer, err)
	}
	events := tail.NewEventReader(bufio.NewReader(res.Body), "")
	call(t, http.MethodPost, "http://"+address+"/users/alice/notifications", "still there")
	for {
		e, err := events.Next()
		if err != nil {
			t.Fatalf("the stream ended with the time for requests: %v", err)
		}
		if e.Data == "still there" {
			return
		}
	}
}
