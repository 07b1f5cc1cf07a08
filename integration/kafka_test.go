package integration

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"

	"herald/consumer"
)

// brokers returns the Kafka cluster to test against. Without one the test is skipped.
func brokers(t *testing.T) []string {
	t.Helper()
	list := os.Getenv("HERALD_TEST_BROKERS")
	if list == "" {
		if os.Getenv("HERALD_REQUIRE_BROKERS") == "1" {
			t.Fatal("HERALD_TEST_BROKERS names no Kafka cluster")
		}
		t.Skip("NOT TESTED on Apache Kafka: set HERALD_TEST_BROKERS=host:port")
	}
	return strings.Split(list, ",")
}

// heraldServe is a herald process on fixed addresses.
type heraldServe struct {
	t              *testing.T
	binary         string
	args           []string
	listen, health string
	process        *exec.Cmd
}

func startServe(t *testing.T, brokers []string, topics ...string) *heraldServe {
	t.Helper()
	h := &heraldServe{t: t, binary: filepath.Join(t.TempDir(), "herald"), listen: freeAddress(t), health: freeAddress(t)}
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", h.binary, "herald/cmd/herald").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	h.args = []string{"serve", "--insecure-no-auth", "--replica", "test", "--group", topics[0], "--brokers", strings.Join(brokers, ","), "--listen", h.listen, "--admin-listen", h.health}
	for _, topic := range topics {
		h.args = append(h.args, "--topic", topic)
	}
	h.start()
	t.Cleanup(h.kill)
	return h
}

func (h *heraldServe) start() {
	h.t.Helper()
	h.process = exec.CommandContext(context.WithoutCancel(h.t.Context()), h.binary, h.args...)
	h.process.Env = []string{}
	h.process.Stderr = h.t.Output()
	if err := h.process.Start(); err != nil {
		h.t.Fatal(err)
	}
	waitReady(h.t, "http://"+h.health+"/readyz")
}

// kill ends the process as kill -9 does.
func (h *heraldServe) kill() {
	_ = h.process.Process.Kill()
	_ = h.process.Wait()
}

// stream is one user's stream, read to its end.
type stream struct {
	t    *testing.T
	url  string
	last string
	body *bufio.Reader
	shut func()
	gaps int
}

func (h *heraldServe) stream(user string) *stream {
	s := &stream{t: h.t, url: "http://" + h.listen + "/events?user=" + user}
	s.dial()
	h.t.Cleanup(func() { s.shut() })
	return s
}

func (s *stream) dial() {
	s.t.Helper()
	if s.shut != nil {
		s.shut()
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), 60*time.Second)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	if s.last != "" {
		req.Header.Set("Last-Event-ID", s.last)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	s.body = bufio.NewReader(res.Body)
	s.shut = func() { cancel(); _ = res.Body.Close() }
	for kind := ""; kind != "checkpoint"; {
		if kind, _ = s.event(); kind == "" {
			s.t.Fatal("the stream has no checkpoint")
		}
	}
}

// event reads one event; an empty kind is the end of the stream.
func (s *stream) event() (kind, data string) {
	var lines []string
	kind = "message"
	for {
		text, err := s.body.ReadString('\n')
		if err != nil {
			return "", ""
		}
		name, value, _ := strings.Cut(strings.TrimSuffix(text, "\n"), ": ")
		switch name {
		case "id":
			s.last = value
		case "event":
			kind = value
		case "data":
			lines = append(lines, value)
		case "":
			if lines == nil {
				continue
			}
			if kind == "gap" {
				s.gaps++
			}
			return kind, strings.Join(lines, "\n")
		}
	}
}

// message returns the next record's value and dials again when the stream ends.
func (s *stream) message() string {
	s.t.Helper()
	for {
		kind, data := s.event()
		switch kind {
		case "message":
			return data
		case "":
			s.dial()
		}
	}
}

func write(t *testing.T, p *consumer.Producer, topic, key, value string) {
	t.Helper()
	if _, err := p.Produce(t.Context(), consumer.Message{Topic: topic, Key: []byte(key), Value: []byte(value)}); err != nil {
		t.Fatal(err)
	}
}

// unique makes topic names of this run.
func unique(name string) string { return fmt.Sprintf("%s-%d", name, time.Now().UnixNano()) }

// TestResumeAcrossKill kills herald in the middle of a user's records, again and again, and wants
// each of them once, in order, and nobody else's. One key keeps them in one partition.
func TestResumeAcrossKill(t *testing.T) {
	list := brokers(t)
	shared, own := unique("shared"), unique("own")
	producer := consumer.NewProducer(list, nil, nil)
	defer producer.Close()
	write(t, producer, shared, "nobody", "creates the topic")
	h := startServe(t, list, shared, own+".{user}")
	alice := h.stream("alice")
	var want, got []string
	next := 0
	put := func(n int) {
		for range n {
			write(t, producer, shared, "bob", "bob's")
			write(t, producer, shared, "alice", fmt.Sprint(next))
			want = append(want, fmt.Sprint(next))
			next++
		}
	}
	for range 4 {
		put(10)
		for range 7 {
			got = append(got, alice.message())
		}
		h.kill()
		put(10) // while nobody reads
		h.start()
		alice.dial()
	}
	put(5)
	for len(got) < len(want) {
		got = append(got, alice.message())
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	write(t, producer, own+".alice", "", "first ever")
	if v := alice.message(); v != "first ever" {
		t.Errorf("got %q, want the first record of alice's own topic", v)
	}
	if alice.gaps > 0 {
		t.Errorf("%d gaps were told, none happened", alice.gaps)
	}
}

// TestValues sends what could break the framing of an event stream.
func TestValues(t *testing.T) {
	list := brokers(t)
	shared := unique("values")
	producer := consumer.NewProducer(list, nil, nil)
	defer producer.Close()
	write(t, producer, shared, "nobody", "creates the topic")
	h := startServe(t, list, shared)
	alice := h.stream("alice")
	big := strings.Repeat("0123456789abcdef", 1<<16-64)
	for _, v := range []struct{ value, want string }{
		{"a\nb", "a\nb"},
		{"a\r\nb\rc", "a\nb\nc"},
		{"id: 5\n\nevent: end\ndata: x", "id: 5\n\nevent: end\ndata: x"},
		{" leading", " leading"},
		{"nul\x00", "nul\x00"},
		{"", ""},
		{"\xff\xfe", "\uFFFD"},
		{big, big},
	} {
		write(t, producer, shared, "alice", v.value)
		if got := alice.message(); got != v.want {
			t.Errorf("%.40q arrived as %.40q, want %.40q", v.value, got, v.want)
		}
	}
	if _, err := producer.Produce(t.Context(), consumer.Message{Topic: shared, Key: []byte("alice")}); err != nil {
		t.Fatal(err)
	}
	write(t, producer, shared, "alice", "after the tombstone")
	if got := alice.message(); got != "after the tombstone" {
		t.Errorf("got %.40q", got)
	}
}

// TestAbortedTransactions wants only what was committed, live and by replay.
func TestAbortedTransactions(t *testing.T) {
	list := brokers(t)
	shared := unique("transactions")
	producer := consumer.NewProducer(list, nil, nil)
	defer producer.Close()
	write(t, producer, shared, "nobody", "creates the topic")
	h := startServe(t, list, shared)
	live, replayed := h.stream("alice"), h.stream("alice")
	client, err := kgo.NewClient(kgo.SeedBrokers(list...), kgo.TransactionalID(shared), kgo.DefaultProduceTopic(shared))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	var want []string
	for i := range 10 {
		if err := client.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		commit := i%2 == 1
		value := fmt.Sprintf("%d committed=%t", i, commit)
		if err := client.ProduceSync(t.Context(), &kgo.Record{Key: []byte("alice"), Value: []byte(value)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if err := client.EndTransaction(t.Context(), kgo.TransactionEndTry(commit)); err != nil {
			t.Fatal(err)
		}
		if commit {
			want = append(want, value)
		}
	}
	check := func(how string, s *stream) {
		var got []string
		for range want {
			got = append(got, s.message())
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", how, diff)
		}
	}
	check("live", live)
	started := replayed.last // its checkpoint: nothing was read from it since
	h.kill()
	h.start()
	replayed.last = started
	replayed.dial()
	check("by replay", replayed)
}
