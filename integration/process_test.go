package integration

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// builtDirectory makes the directory of the binaries that the tests run.
var builtDirectory = sync.OnceValues(func() (string, error) {
	return os.MkdirTemp("", "herald-integration-") // outlives the first test
})

// heraldBinary builds cmd/herald once, static as in the image unless the race detector is on, and
// returns the binary's path.
func heraldBinary(tb testing.TB) string {
	tb.Helper()
	binary, err := builtHerald()
	if err != nil {
		tb.Fatal(err)
	}
	return binary
}

var builtHerald = sync.OnceValues(func() (string, error) {
	directory, err := builtDirectory()
	if err != nil {
		return "", err
	}
	binary := filepath.Join(directory, "herald")
	args := []string{"build", "-trimpath", "-o", binary}
	cgo := "CGO_ENABLED=0"
	if raceDetector { // which needs it; a race ends the process with an exit code that the tests refuse
		args, cgo = append(args, "-race"), "CGO_ENABLED=1"
	}
	build := exec.Command("go", append(args, "herald/cmd/herald")...) // go test's time-out bounds it
	build.Env = append(os.Environ(), cgo)
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build herald: %w\n%s", err, out)
	}
	return binary, nil
})

func removeBuilt() {
	if directory, err := builtDirectory(); err == nil {
		_ = os.RemoveAll(directory)
	}
}

// herald is a process of the built binary. Its addresses stay the same when it is started again.
type herald struct {
	t       *testing.T
	binary  string
	args    []string
	env     []string // its whole environment
	public  string   // host:port of the public listener
	admin   string   // host:port of the admin listener
	command *exec.Cmd
	ended   chan struct{} // closed when the process has ended
	err     error         // its exit error; valid after ended is closed
	printed output
}

// startHerald starts `herald serve` with these arguments and waits until it is ready.
func startHerald(t *testing.T, b *broker, args ...string) *herald {
	t.Helper()
	h := newHerald(t, b, args...)
	h.Start()
	return h
}

// newHerald returns the process of startHerald without starting it. The replica has its own consumer group.
func newHerald(t *testing.T, b *broker, args ...string) *herald {
	t.Helper()
	return newProcess(t, "serve", append([]string{
		"--insecure-no-auth", "--brokers=" + strings.Join(b.addresses, ","),
		"--group=" + topicName(t, "group"), "--replica=test",
	}, args...)...)
}

// startDev starts `herald dev` and waits until it is ready. At the end it is interrupted, as by
// Ctrl-C.
func startDev(t *testing.T, more ...string) *herald {
	t.Helper()
	h := newProcess(t, "dev", append(more, "--kafka-listen="+freeAddress(t))...)
	h.Start()
	t.Cleanup(func() { h.End(os.Interrupt) })
	return h
}

// newProcess returns a herald that is not started yet, with an empty environment and a free port
// for each listener. A process that still runs at the end of the test is killed.
func newProcess(t *testing.T, command string, args ...string) *herald {
	t.Helper()
	return newProcessAt(t, freeAddress(t), freeAddress(t), command, args...)
}

// newProcessAt is newProcess with the addresses of the listeners.
func newProcessAt(t *testing.T, public, admin, command string, args ...string) *herald {
	t.Helper()
	h := &herald{t: t, binary: heraldBinary(t), public: public, admin: admin}
	h.args = append([]string{command, "--listen=" + h.public, "--admin-listen=" + h.admin}, args...)
	t.Cleanup(func() {
		if h.command != nil {
			h.Kill()
		}
		if t.Failed() {
			t.Logf("herald %s\n%s", strings.Join(h.args, " "), h.printed.String())
		}
	})
	return h
}

// Start starts the process and waits until it is ready.
func (h *herald) Start() {
	h.t.Helper()
	h.Launch()
	h.WaitReady()
}

// Launch starts the process without waiting.
func (h *herald) Launch() {
	h.t.Helper()
	h.command = exec.Command(h.binary, h.args...) //nolint:noctx // Kill and End end it
	h.command.Env = append([]string{}, h.env...)  // not nil, which would be the environment of the test
	h.command.Stdout, h.command.Stderr = &h.printed, &h.printed
	if err := h.command.Start(); err != nil {
		h.t.Fatalf("start herald: %v", err)
	}
	h.ended = make(chan struct{})
	go func() {
		defer close(h.ended)
		h.err = h.command.Wait()
	}()
}

// WaitReady waits until /readyz?strict answers 200: Kafka answers, and all topics are read.
func (h *herald) WaitReady() { h.t.Helper(); h.waitStatus(http.StatusOK) }

// WaitNotReady waits until /readyz?strict answers 503.
func (h *herald) WaitNotReady() { h.t.Helper(); h.waitStatus(http.StatusServiceUnavailable) }

func (h *herald) waitStatus(want int) {
	h.t.Helper()
	waitStatus(h.t, "http://"+h.admin+"/readyz?strict", want, h.ended)
}

// waitState waits until /debug/streams shows the only stream of the user in the state.
func (h *herald) waitState(user, want string) {
	h.t.Helper()
	var body string
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if body = mustSend(h.t, http.MethodGet, "http://"+h.admin+"/debug/streams?user="+user, "").body; strings.Contains(body, `"state":"`+want+`"`) {
			return
		}
	}
	h.t.Fatalf("%s has %s, want a stream in state %s", user, body, want)
}

// waitForNoStream waits until Herald has noticed that its last client is gone. A record that is written before counts
// as delivered.
func (h *herald) waitForNoStream() {
	h.t.Helper()
	waitFor(h.t, "herald has no stream", func(context.Context) bool { return h.Metric("herald_streams") == 0 })
}

// Metric returns the value of a series of /metrics, such as name{label="value"}; 0 if there is none.
func (h *herald) Metric(series string) float64 {
	h.t.Helper()
	for line := range strings.Lines(mustSend(h.t, http.MethodGet, "http://"+h.admin+"/metrics", "").body) {
		if text, ok := strings.CutPrefix(line, series+" "); ok {
			value, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
			if err != nil {
				h.t.Fatalf("/metrics: %s: %v", line, err)
			}
			return value
		}
	}
	return 0
}

// Kill ends the process as kill -9 does.
func (h *herald) Kill() {
	_ = h.command.Process.Kill()
	<-h.ended
	h.command = nil
}

// Stop ends the process with SIGTERM; it must leave with exit code 0.
func (h *herald) Stop() { h.t.Helper(); h.End(syscall.SIGTERM) }

// End ends the process with the signal; it must leave with exit code 0.
func (h *herald) End(signal os.Signal) {
	h.t.Helper()
	if err := h.command.Process.Signal(signal); err != nil {
		h.t.Fatalf("%v to herald: %v", signal, err)
	}
	select {
	case <-h.ended:
		h.command = nil
		if h.err != nil {
			h.t.Errorf("herald after %v: %v, want exit code 0", signal, h.err)
		}
	case <-time.After(patience):
		h.t.Fatalf("herald still runs %s after %v", patience, signal)
	}
}

// output is what a process has printed; safe while it runs.
type output struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buffer.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buffer.String()
}
