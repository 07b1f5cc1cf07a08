package main

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestSystemdIsNotified runs a server as systemd starts it, and wants a notification of each state: of the start, of
// life more than once, of a reload's beginning and end, and of the stop.
func TestSystemdIsNotified(t *testing.T) {
	dir, err := os.MkdirTemp("", "h") //nolint:usetesting // the path of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a test's
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close() //nolint:errcheck // a test's
	_ = socket.SetReadDeadline(time.Now().Add(30 * time.Second))
	sent := make(chan string, 10_000)
	go func() { // reads all the time: the test's own goroutine writes to the socket too, and a full socket would block it
		defer close(sent)
		for b := make([]byte, 256); ; {
			n, err := socket.Read(b)
			if err != nil {
				return
			}
			sent <- string(b[:n])
		}
	}()
	read := func(want string) string {
		t.Helper()
		got, ok := <-sent
		if !ok {
			t.Fatalf("no %s", want)
		}
		return got
	}
	await := func(want string) {
		t.Helper()
		for got := ""; !strings.HasPrefix(got, want); {
			got = read(want)
		}
	}
	srv, _ := startServer(t, devRoutes)
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	superviseBySystemd(t.Context(), srv, log)() // not started by systemd
	t.Setenv("NOTIFY_SOCKET", socket.LocalAddr().String())
	t.Setenv("WATCHDOG_USEC", "40000")
	ctx, terminate := context.WithCancel(t.Context())
	stop := superviseBySystemd(ctx, srv, log)
	if got := read("READY=1"); got != "READY=1" {
		t.Errorf("%s came before READY=1", got)
	}
	await("WATCHDOG=1")
	await("WATCHDOG=1")
	reportReload(log, func() { await("RELOADING=1\nMONOTONIC_USEC=") })
	await("READY=1")
	terminate()
	await("STOPPING=1")
	await("WATCHDOG=1") // until the process ends: the drain may take longer than the watchdog waits
	stop()
}
