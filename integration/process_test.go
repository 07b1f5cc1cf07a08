package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long a test waits for what must come. It is a bound on a hang, not a claim.
const patience = 60 * time.Second

// built is the directory of the binary that all tests run.
var built struct {
	once      sync.Once
	directory string
	err       error
}

// heraldBinary builds cmd/herald once, static as in the image, and returns the binary's path.
func heraldBinary(t *testing.T) string {
	t.Helper()
	built.once.Do(func() {
		if built.directory, built.err = os.MkdirTemp("", "herald-integration-"); built.err != nil {
			return
		}
		build := exec.Command("go", "build", "-o", built.directory+"/herald", "herald/cmd/herald") //nolint:noctx // go test's time-out bounds it
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			built.err = fmt.Errorf("build herald: %w\n%s", err, out)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return filepath.Join(built.directory, "herald")
}

func removeBuilt() {
	if built.directory != "" {
		_ = os.RemoveAll(built.directory)
	}
}

// herald is a `herald serve` process. Its addresses stay the same when it is started again.
type herald struct {
	t       *testing.T
	binary  string
	args    []string
	public  string // host:port of the public listener
	admin   string // host:port of the admin listener
	command *exec.Cmd
	ended   chan error // what the process left with
	stderr  output
}

// startHerald starts `herald serve` with an empty environment, a free port for each listener and
// these arguments, and waits until it is ready.
func startHerald(t *testing.T, b *broker, args ...string) *herald {
	t.Helper()
	h := newHerald(t, b, args...)
	h.Start()
	return h
}

// newHerald is startHerald without the start. The replica has a consumer group of its own.
func newHerald(t *testing.T, b *broker, args ...string) *herald {
	t.Helper()
	h := &herald{t: t, binary: heraldBinary(t), public: freeAddress(t), admin: freeAddress(t)}
	h.args = append([]string{
		"serve", "--insecure-no-auth", "--brokers=" + strings.Join(b.addresses, ","),
		"--group=" + topicName(t, "group"), "--replica=test", "--listen=" + h.public, "--admin-listen=" + h.admin,
	}, args...)
	t.Cleanup(func() {
		if h.command != nil {
			h.Kill()
		}
		if t.Failed() {
			t.Logf("herald %s\n%s", strings.Join(h.args, " "), h.stderr.String())
		}
	})
	return h
}

// Start starts the process and waits until /readyz answers 200.
func (h *herald) Start() {
	h.t.Helper()
	h.Launch()
	h.WaitReady()
}

// Launch starts the process without waiting.
func (h *herald) Launch() {
	h.t.Helper()
	h.command = exec.Command(h.binary, h.args...) //nolint:noctx,gosec // Kill and Stop end it; the binary is our own
	h.command.Env = []string{}
	h.command.Stderr = &h.stderr
	if err := h.command.Start(); err != nil {
		h.t.Fatalf("start herald: %v", err)
	}
	h.ended = make(chan error, 1)
	go func(command *exec.Cmd, ended chan<- error) { ended <- command.Wait() }(h.command, h.ended)
}

// WaitReady waits until /readyz answers 200.
func (h *herald) WaitReady() { h.t.Helper(); h.waitStatus(http.StatusOK) }

// WaitNotReady waits until /readyz answers 503.
func (h *herald) WaitNotReady() { h.t.Helper(); h.waitStatus(http.StatusServiceUnavailable) }

func (h *herald) waitStatus(want int) {
	h.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		status, err := get(h.t, "http://"+h.admin+"/readyz")
		if status == want {
			return
		}
		select {
		case err := <-h.ended:
			h.ended <- err
			h.t.Fatalf("herald ended before /readyz answered %d: %v", want, err)
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			h.t.Fatalf("/readyz did not answer %d in %s; last %d, %v", want, patience, status, err)
		}
	}
}

// Kill ends the process as kill -9 does.
func (h *herald) Kill() {
	_ = h.command.Process.Kill()
	<-h.ended
	h.command = nil
}

// Stop ends the process with SIGTERM; it must leave with exit code 0.
func (h *herald) Stop() {
	h.t.Helper()
	if err := h.command.Process.Signal(syscall.SIGTERM); err != nil {
		h.t.Fatalf("SIGTERM to herald: %v", err)
	}
	select {
	case err := <-h.ended:
		h.command = nil
		if err != nil {
			h.t.Errorf("herald after SIGTERM: %v, want exit code 0", err)
		}
	case <-time.After(patience):
		h.t.Fatalf("herald still runs %s after SIGTERM", patience)
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

// get returns the status of the address's answer.
func get(t *testing.T, address string) (int, error) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatalf("GET %s: %v", address, err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	return response.StatusCode, response.Body.Close()
}

// waitReady waits until the address answers 200.
func waitReady(t *testing.T, address string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		status, err := get(t, address)
		if status == http.StatusOK {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("GET %s did not answer 200 in %s; last %d, %v", address, patience, status, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// freeAddress returns a loopback address that nothing listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	address, err := unusedAddress(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return address
}

// unusedAddress picks from below 32768, where the kernel's ports for outgoing connections begin:
// the address stays free while its process is restarted.
func unusedAddress(ctx context.Context) (string, error) {
	for range 100 {
		address := fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(12000))
		var config net.ListenConfig
		if listener, err := config.Listen(ctx, "tcp", address); err == nil {
			return address, listener.Close()
		}
	}
	return "", errors.New("no free port found in 100 tries")
}
