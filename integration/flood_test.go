package integration

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// floodVariable is the environment variable that makes the test binary flood a server instead of testing. Its
// value is "ADDRESS SOURCE CONNECTIONS".
const floodVariable = "HERALD_TEST_FLOOD_PROCESS"

// begun is what connection n of a process sends: nothing, half a header, or half a body that nobody reads.
func begun(n int) string {
	switch {
	case n%20 == 0:
		return "POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhalf"
	case n%2 == 0:
		return "GET /events?user=alice HTTP/1.1\r\nHost: localhost\r\n"
	}
	return ""
}

// runFlood is the main function of a child process of TestHalfOpenConnections. It holds connections from its own
// address, opens closed connections again, and returns the exit code when the parent closes its standard input.
func runFlood(order string) int {
	var address, source string
	var connections int
	if _, err := fmt.Sscan(order, &address, &source, &connections); err != nil {
		fmt.Fprintf(os.Stderr, "%s=%q: %v\n", floodVariable, order, err)
		return 2
	}
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}
	first := make(chan error, connections)
	for n := range connections {
		go func() {
			for again := false; ; again = true {
				conn, err := dialer.DialContext(context.Background(), "tcp", address)
				if err == nil {
					_, err = io.WriteString(conn, begun(n))
				}
				if !again {
					first <- err
				}
				if err == nil {
					_, _ = io.Copy(io.Discard, conn)
					_ = conn.Close()
				}
				time.Sleep(time.Second)
			}
		}()
	}
	for range connections {
		if err := <-first; err != nil {
			_, _ = fmt.Fprintln(os.Stdout, "flood:", err)
		}
	}
	_, _ = fmt.Fprintln(os.Stdout, "flood begun")
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n') // until the parent ends
	return 0
}

// startFlood starts a process that runs runFlood until the test ends. The returned function waits until the process
// has opened all connections.
func startFlood(t *testing.T, address, source string, connections int) (wait func()) {
	t.Helper()
	command := exec.CommandContext(t.Context(), os.Args[0])
	command.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %d", floodVariable, address, source, connections))
	in, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = command.Wait()
	})
	return func() {
		t.Helper()
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if lines.Text() == "flood begun" {
				return
			}
			t.Log(lines.Text())
		}
		t.Fatal("a process of the flood ended before it had begun")
	}
}

// TestHalfOpenConnections floods herald with half-open connections: six addresses hold 4,000 connections each and
// send nothing, half a header or half a body. These are more connections than the limit of open files allows.
// Streams must continue, the admin listener must answer, and memory must be bounded. Most new clients must get their
// streams long before the time-out of a header closes connections.
func TestHalfOpenConnections(t *testing.T) {
	const (
		processes, each, streams, newcomers = 6, 4000, 50, 20
		headerTimeout                       = 10 * time.Second
		files                               = 20_000
		perFile                             = 48 << 10 // bytes of memory; a connection takes 22 KiB
	)
	b := sharedBroker(t)
	shared := b.newTopic(t, "shared", 1)
	h := newHerald(t, b, "--topic="+shared)
	h.through(fmt.Sprintf("ulimit -n %d && exec %%s", files))
	h.Start()
	c := newCrowd(t, h, streams)
	c.Connect()
	before := h.Metric("process_resident_memory_bytes")

	var begun []func()
	for n := range processes {
		begun = append(begun, startFlood(t, h.public, fmt.Sprintf("127.0.0.%d", n+2), each))
	}
	for _, wait := range begun {
		wait()
	}
	waitFor(t, "the server is full", func(context.Context) bool { return h.Metric("herald_http_connections") > files-1000 })
	var took []time.Duration
	for n := range newcomers {
		for i := range streams {
			b.produce(t, record(shared, user(i), fmt.Sprint("own ", n)))
		}
		c.ReadTo(map[string]int{"own": n + 1})
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		opened := time.Now()
		s, err := openLight(ctx, new(net.Dialer), h.public, fmt.Sprint("newcomer-", n), "")
		cancel()
		if err != nil {
			t.Fatalf("newcomer %d: %v", n, err)
		}
		took = append(took, time.Since(opened))
		t.Cleanup(s.Cut)
	}
	grown := h.Metric("process_resident_memory_bytes") - before
	connections, evicted := h.Metric("herald_http_connections"), h.Metric("herald_http_connections_evicted_total")
	slices.Sort(took)
	// The flood may crowd out a newcomer's first packet. The kernel then sends the packet again, after 1, 3 and 7 s. So the
	// slowest fifth of the newcomers does not count.
	most := took[len(took)*4/5]
	t.Logf("%v connections, %v evicted; most newcomers had their streams after %v, and all after %v; memory grew by %.0f MB",
		connections, evicted, most, took[len(took)-1], grown/1e6)
	if most > headerTimeout/2 {
		t.Errorf("newcomers had their streams after %v", took)
	}
	if connections < files/2 {
		t.Errorf("%v connections: the flood has ended", connections)
	}
	if evicted == 0 {
		t.Error("no connection was evicted: only time-outs closed connections")
	}
	if bound := float64(files * perFile); grown > bound && !raceDetector { // the race detector needs memory too
		t.Errorf("memory grew by %.0f MB, want %.0f MB at the most", grown/1e6, bound/1e6)
	}
	if a, err := send(t, http.MethodGet, "http://"+h.admin+"/readyz", ""); err != nil || a.status != http.StatusOK {
		t.Errorf("/readyz: %d, %v", a.status, err)
	}
	if open := h.Metric("herald_streams"); open != streams+newcomers {
		t.Errorf("%v streams are open, want %d", open, streams+newcomers)
	}
	if strings.Contains(h.printed.String(), "too many open files") {
		t.Error("herald reached the limit of open files")
	}
}
