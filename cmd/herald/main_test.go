package main

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// start runs the program until it ends, or until the test ends.
func start(t *testing.T, args ...string) (code int, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var out bytes.Buffer
	code = run(ctx, args, &out)
	if ctx.Err() != nil {
		t.Fatalf("herald %q still ran after a minute", args)
	}
	return code, out.String()
}

// taken returns an address on which a listener is open.
func taken(t *testing.T) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String()
}

// with returns a new slice of args and more.
func with(args []string, more ...string) []string { return slices.Concat(args, more) }

// TestMistakesAtStart expects one line that names the flag and says what to do.
func TestMistakesAtStart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	busy := taken(t)
	free := []string{"--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0"}
	serve := with([]string{"serve", "--brokers=127.0.0.1:1", "--topic=t", "--insecure-no-auth"}, free...)
	dev := with([]string{"dev", "--kafka-listen=127.0.0.1:0"}, free...)
	for name, test := range map[string]struct {
		args []string
		code int
		want string
	}{
		"nothing":           {nil, exitUsage, "herald dev"},
		"unknown command":   {[]string{"sevre"}, exitUsage, `did you mean "serve"`},
		"public port":       {with(serve, "--listen="+busy), exitFailed, "--listen " + busy + ": bind: address already in use: stop what listens there, or choose another port"},
		"admin port":        {with(serve, "--admin-listen="+busy), exitFailed, "--admin-listen " + busy + ": bind: address already in use"},
		"kafka port":        {with(dev, "--kafka-listen="+busy), exitFailed, "--kafka-listen " + busy + ": bind: address already in use"},
		"no address":        {with(serve, "--listen=nowhere"), exitUsage, "--listen nowhere: "},
		"foreign address":   {with(serve, "--listen=192.0.2.1:80"), exitFailed, "choose an address of this machine"},
		"data in a file":    {with(dev, "--data-dir="+file), exitFailed, "choose a directory that this user can write to"},
		"no secret file":    {with(serve[:3], "--jwt-secret-file="+file+"x"), exitUsage, "--jwt-secret-file: "},
		"empty secret file": {with(serve[:3], "--jwt-secret-file="+file), exitUsage, "--jwt-secret-file: "},
		"no authority":      {with(serve, "--kafka-tls", "--kafka-ca-file="+file+"x"), exitUsage, "--kafka-ca-file: "},
		"no broker":         {[]string{"produce", "--brokers=127.0.0.1:1", "--user=alice", "x"}, exitFailed, "no Kafka broker answers at 127.0.0.1:1: connection refused"},
		"no broker's name":  {[]string{"produce", "--brokers=herald.invalid:1", "x"}, exitFailed, "no Kafka broker answers at herald.invalid:1: lookup herald.invalid"},
	} {
		t.Run(name, func(t *testing.T) {
			code, stderr := start(t, test.args...)
			if code != test.code || !strings.Contains(stderr, test.want) {
				t.Errorf("exit code %d, %q, want %d and %q", code, stderr, test.code, test.want)
			}
			if test.args != nil && strings.Count(stderr, "\n") != 1 {
				t.Errorf("%q: want one line", stderr)
			}
		})
	}
}

// TestDataDirIsLocked starts a second herald dev in the data directory of the first.
func TestDataDirIsLocked(t *testing.T) {
	dir := t.TempDir()
	unlock, err := (&devCommand{DataDir: dir}).lock()
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"dev", "--kafka-listen=127.0.0.1:0", "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--data-dir=" + dir}
	code, stderr := start(t, args...)
	if want := "--data-dir " + dir + " is used by another herald dev"; code != exitFailed || !strings.Contains(stderr, want) {
		t.Errorf("exit code %d, %q, want %q", code, stderr, want)
	}
	unlock()
	unlock, err = (&devCommand{DataDir: dir}).lock()
	if err != nil {
		t.Fatalf("after its end: %v", err)
	}
	unlock()
}

// TestStopWhileKafkaIsAway ends a server that has never reached Kafka.
func TestStopWhileKafkaIsAway(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	ended := make(chan int, 1)
	go func() {
		var stderr bytes.Buffer
		ended <- run(ctx, []string{
			"serve", "--brokers=" + taken(t), "--topic=t", "--insecure-no-auth", "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--log-level=error",
		}, &stderr)
		t.Log(stderr.String())
	}()
	select {
	case code := <-ended:
		if code != 0 {
			t.Errorf("exit code %d, want 0", code)
		}
	case <-time.After(20 * time.Second):
		t.Error("herald still runs 20 s after its context ended")
	}
}

// TestNoAuthIsWarnedOf wants a warning where nobody is authenticated and others than this machine may
// ask.
func TestNoAuthIsWarnedOf(t *testing.T) {
	for listen, want := range map[string]bool{
		"127.0.0.1:8080": false, "localhost:8080": false, "[::1]:8080": false,
		":8080": true, "0.0.0.0:8080": true, "[::]:8080": true, "192.0.2.1:80": true, "herald.example:80": true,
	} {
		var log bytes.Buffer
		if _, err := (&authFlags{InsecureNoAuth: true}).access(listen, slog.New(slog.NewTextHandler(&log, nil))); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(log.String(), "level=WARN msg=\"NOBODY IS AUTHENTICATED"); got != want {
			t.Errorf("%s: warned %v, want %v", listen, got, want)
		}
	}
}

// TestVersionFlag expects that the flag and the command print the same line.
func TestVersionFlag(t *testing.T) {
	var out bytes.Buffer
	ended := -1
	parser := newParser(t.Context(), new(commands), new(configFile))
	parser.Stdout, parser.Exit = &out, func(code int) { ended = code }
	_, _ = parser.Parse([]string{"--version"}) // an error because this test's Exit returns and there is no command
	if want := versionLine() + "\n"; out.String() != want || ended != 0 {
		t.Errorf("%q and exit code %d, want %q and 0", out.String(), ended, want)
	}
}
