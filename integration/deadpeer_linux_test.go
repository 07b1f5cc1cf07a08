package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// requireNetns is the environment variable that makes the test fail if it cannot create a network namespace.
const requireNetns = "HERALD_REQUIRE_NETNS"

// farMachine stands for a separate machine: a network namespace at the other end of a link, which TCP cannot
// distinguish from a machine.
type farMachine struct {
	t         *testing.T
	namespace string
	link      string // our end
	address   string // of our end
}

// newFarMachine creates a farMachine and removes it at the end of the test. If it cannot create one, it skips the
// test.
func newFarMachine(t *testing.T) *farMachine {
	t.Helper()
	n := rand.IntN(1 << 8)
	ours, theirs := fmt.Sprintf("198.18.%d.1", n), fmt.Sprintf("198.18.%d.2", n) // of the network for such tests (RFC 2544)
	m := &farMachine{t: t, namespace: fmt.Sprint("herald-test-", n), link: fmt.Sprint("herald", n), address: ours}
	t.Cleanup(func() {
		_ = ip("link", "del", m.link)
		_ = ip("netns", "del", m.namespace)
	})
	for _, args := range [][]string{
		{"netns", "add", m.namespace},
		{"link", "add", m.link, "type", "veth", "peer", "name", "far", "netns", m.namespace},
		{"addr", "add", ours + "/30", "dev", m.link},
		{"link", "set", m.link, "up"},
		{"-n", m.namespace, "addr", "add", theirs + "/30", "dev", "far"},
		{"-n", m.namespace, "link", "set", "far", "up"},
	} {
		if err := ip(args...); err != nil {
			notTested(t, requireNetns, "a client whose machine is gone, without a network namespace: run as root, with iproute2. "+err.Error())
		}
	}
	return m
}

func ip(args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// open opens a stream from the machine.
func (m *farMachine) open(address, user string) *lightStream {
	m.t.Helper()
	type opened struct {
		stream *lightStream
		err    error
	}
	done := make(chan opened)
	go func() {
		runtime.LockOSThread() // never unlocked, so that the thread in the namespace ends with the goroutine
		namespace, err := os.Open("/run/netns/" + m.namespace)
		if err == nil {
			defer namespace.Close() //nolint:errcheck // it was only read
			err = unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNET)
		}
		if err != nil {
			done <- opened{err: err}
			return
		}
		s, err := openLight(m.t.Context(), new(net.Dialer), address, user, "") // the socket stays in the namespace
		done <- opened{s, err}
	}()
	o := <-done
	if o.err != nil {
		m.t.Fatal(o.err)
	}
	m.t.Cleanup(o.stream.Cut)
	return o.stream
}

// vanish takes the machine off the network: it receives nothing and sends nothing.
func (m *farMachine) vanish() { m.set("down") }

func (m *farMachine) comeBack() { m.set("up") }

func (m *farMachine) set(state string) {
	m.t.Helper()
	if err := ip("-n", m.namespace, "link", "set", "far", state); err != nil {
		m.t.Fatal(err)
	}
}

// TestStreamOfVanishedClientEnds takes a client's machine off the network without FIN or RST. The client's stream must end soon,
// whether Herald writes records to it or only heartbeats. Heartbeats alone would fit into the kernel's buffer for
// days, and without a time-out the kernel gives up only after a quarter of an hour. Another stream must keep
// working.
func TestStreamOfVanishedClientEnds(t *testing.T) {
	const slack = 30 * time.Second
	far := newFarMachine(t)
	b := sharedBroker(t)
	shared := b.newTopic(t, "shared", 1)
	h := newHerald(t, b, "--topic="+shared, "--write-timeout=2s", "--heartbeat=1s")
	h.args[1] = "--listen=0.0.0.0:" + portOf(t, h.public)
	h.Start()
	near, err := openLight(t.Context(), new(net.Dialer), h.public, user(0), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(near.Cut)
	count := map[string]int{}
	write := func(user string) {
		t.Helper()
		b.produce(t, record(shared, user, fmt.Sprintf("%s %d", user, count[user])))
		count[user]++
	}
	for _, name := range []string{"busy", "idle"} {
		t.Run(name, func(t *testing.T) {
			stream := far.open(net.JoinHostPort(far.address, portOf(t, h.public)), name)
			write(name)
			if err := stream.ReadTo(map[string]int{name: 1}); err != nil {
				t.Fatal(err)
			}
			if open := h.Metric("herald_streams"); open != 2 {
				t.Fatalf("%v streams are open, want 2", open)
			}
			far.vanish()
			t.Cleanup(far.comeBack)
			vanished := time.Now()
			waitFor(t, "the stream ends", func(context.Context) bool {
				if name == "busy" {
					write(name)
				}
				write(user(0))
				return h.Metric("herald_streams") == 1
			})
			took := time.Since(vanished)
			t.Logf("the stream ended after %v", took)
			if took > slack { // without the time-out it is a minute until the records fill the kernel's buffer
				t.Errorf("the stream ended after %v, want it soon after the write time-out", took)
			}
			if err := near.ReadTo(map[string]int{user(0): count[user(0)]}); err != nil {
				t.Error(err)
			}
		})
	}
}
