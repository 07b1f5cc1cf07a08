package integration

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// through makes a shell start the process: %s stands for the command line.
func (h *herald) through(shell string) {
	h.binary, h.args = "/bin/sh", append([]string{"-c", fmt.Sprintf(shell, `"$0" "$@"`), h.binary}, h.args...)
}

// TestStandardErrorIsGone starts a server whose standard error is closed, or is a full disk. The server cannot write
// its log. It still serves streams, and stops in order.
func TestStandardErrorIsGone(t *testing.T) {
	for name, shell := range map[string]string{"closed": "exec %s 2>&-", "full": "exec %s 2>/dev/full"} {
		t.Run(name, func(t *testing.T) {
			h := newProcess(t, "dev", "--kafka-listen="+freeAddress(t))
			h.through(shell)
			h.Start()
			alice := openStream(t, h, "alice")
			for range 3 { // each refusal is a line of the log
				if a := mustSend(t, "GET", "http://"+h.public+"/events?sinse=earliest", ""); a.status != 400 {
					t.Errorf("a misspelt parameter: %d, want 400", a.status)
				}
				time.Sleep(time.Second)
			}
			notify(t, "http://"+h.public, "/users/alice/notifications", "hello")
			if got := alice.Record().Data; got != "hello" {
				t.Errorf("got %q, want the record", got)
			}
			h.Stop()
			checkDrained(t, alice)
		})
	}
}

// TestTooFewOpenFiles starts a server that may open 64 files. It says what to do, and ends.
func TestTooFewOpenFiles(t *testing.T) {
	h := newProcess(t, "serve", "--insecure-no-auth", "--brokers=127.0.0.1:1", "--topic=a")
	h.through("ulimit -n 64 && exec %s")
	h.Launch()
	select {
	case <-h.ended:
	case <-time.After(patience):
		t.Fatal("herald runs with 64 open files")
	}
	if code := h.command.ProcessState.ExitCode(); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	if text := h.printed.String(); !strings.Contains(text, "the limit of open files is 64") || !strings.Contains(text, "ulimit -Hn") {
		t.Errorf("herald says %q, want the limit and how to raise it", text)
	}
}

// TestStopDuringReplay stops the server while it replays 20 MB to a client. The stream ends with a reason, and after
// the next start the client has each record once and in order.
func TestStopDuringReplay(t *testing.T) {
	const records = 20_000
	b := sharedBroker(t)
	topic := topicName(t, "replayed")
	b.createTopic(t, topic, 1)
	padding := strings.Repeat("x", 1000)
	b.produceMany(t, func(yield func(*kgo.Record) bool) {
		for n := range records {
			if !yield(record(topic, "alice", fmt.Sprint(n, " ", padding))) {
				return
			}
		}
	})
	h := startHerald(t, b, "--topic="+topic, "--replay-cache-bytes=1048576")
	alice := newStream(t, h.public, "alice")
	alice.url += "&since=earliest"
	alice.Connect()
	alice.Checkpoint()
	next := 0
	take := func(e event) {
		t.Helper()
		number, _, _ := strings.Cut(e.Data, " ")
		if n, err := strconv.Atoi(number); err != nil || n != next {
			t.Fatalf("got record %q, want %d", number, next)
		}
		next++
	}
	for next < 1000 {
		take(alice.Record())
	}
	if err := h.command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	ended := false
	for _, e := range alice.AwaitEnd() {
		switch {
		case e.Type == "end" && e.Data == `{"reason":"draining"}`:
			ended = true
		case e.Type != "checkpoint":
			take(e)
		}
	}
	if !ended || next == records {
		t.Errorf("the stream ended after %d of %d records, with a reason: %v; want an end in the replay, and the reason", next, records, ended)
	}
	<-h.ended
	if h.err != nil {
		t.Errorf("herald: %v, want exit code 0", h.err)
	}
	h.Start()
	alice.Connect()
	alice.Checkpoint()
	for next < records {
		take(alice.Record())
	}
}
