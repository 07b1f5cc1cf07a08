package consumer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kfake"
)

// ledger is a Sink that keeps all records and gaps it receives.
type ledger struct {
	mu    sync.Mutex
	begun map[Partition]int64
	next  map[Partition]int64
	ids   map[string][16]byte // of topics, by name
	lines []string            // "user value", "* value" for everyone
	gaps  []Gap
}

func newLedger() *ledger {
	return &ledger{begun: make(map[Partition]int64), next: make(map[Partition]int64), ids: make(map[string][16]byte)}
}

func (l *ledger) Begin(p Partition, id [16]byte, next int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if was, ok := l.ids[p.Topic]; ok && was != id {
		l.gaps = append(l.gaps, Gap{Reason: GapRecreated})
	}
	l.ids[p.Topic] = id
	l.begun[p], l.next[p] = next, next
}

func (l *ledger) Deliver(p Partition, records []Record, next int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range records {
		l.lines = append(l.lines, line(&records[i]))
	}
	l.next[p] = next
}

func (l *ledger) Gap(p Partition, gap Gap) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gaps = append(l.gaps, gap)
	l.next[p] = gap.To
}

func (l *ledger) End(p Partition) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.next, p)
}

func line(r *Record) string {
	if r.Broadcast {
		return "* " + string(r.Value)
	}
	return string(r.User) + " " + string(r.Value)
}

// sorted waits until the ledger has n lines and returns all lines in alphabetical order.
func (l *ledger) sorted(t *testing.T, n int) []string {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		l.mu.Lock()
		lines := slices.Sorted(slices.Values(l.lines))
		l.mu.Unlock()
		if len(lines) >= n {
			return lines
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d records arrived, want %d: %q", len(lines), n, lines)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// start runs a consumer of the routes on a new in-process broker.
func start(t *testing.T, topics []string, specs ...string) (*Consumer, *ledger, *Producer) {
	t.Helper()
	_, c, sink, producer := startOn(t, nil, topics, specs...)
	return c, sink, producer
}

// startOn is like start, but takes further options for the broker and returns the broker.
func startOn(t *testing.T, opts []kfake.Opt, topics []string, specs ...string) (*kfake.Cluster, *Consumer, *ledger, *Producer) {
	t.Helper()
	broker := newBroker(t, append([]kfake.Opt{kfake.SeedTopics(3, topics...), kfake.AllowAutoTopicCreation(), kfake.DefaultNumPartitions(1)}, opts...)...)
	c, sink, producer := startAt(t, broker, specs...)
	return broker, c, sink, producer
}

// startAt is like start, but on a running broker.
func startAt(t *testing.T, broker *kfake.Cluster, specs ...string) (*Consumer, *ledger, *Producer) {
	t.Helper()
	sink := newLedger()
	c, producer := startWith(t, broker.ListenAddrs(), sink, specs...)
	return c, sink, producer
}

// startWith runs a consumer of the brokers at the addresses, and returns it with a producer.
func startWith(t *testing.T, addresses []string, sink Sink, specs ...string) (*Consumer, *Producer) {
	t.Helper()
	c := configured(t, addresses, sink, specs...)
	run(t, c)
	producer := NewProducer(addresses, nil, nil)
	t.Cleanup(producer.Close)
	return c, producer
}

// limited returns an option that limits in-process brokers to the versions of requests of the broker that the
// environment variable HERALD_TEST_KAFKA names, such as 2.1. All tests can so run on a broker without ids of topics.
func limited() kfake.Opt {
	return kfake.MaxVersions(brokerVersions(os.Getenv(kafkaVariable)))
}

// newBroker starts an in-process cluster, of one broker unless the options say otherwise, until the test ends.
func newBroker(tb testing.TB, opts ...kfake.Opt) *kfake.Cluster {
	tb.Helper()
	broker, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1), limited()}, opts...)...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(broker.Close)
	return broker
}

// configured returns a consumer that does not run yet. Each spec is a route, except rack=NAME, which sets
// the consumer's rack, and group=NAME, which sets its group.
func configured(t *testing.T, addresses []string, sink Sink, specs ...string) *Consumer {
	t.Helper()
	cfg := Config{Brokers: addresses, Group: "test", Replica: "one", Logger: slog.New(&said{Handler: slog.NewTextHandler(t.Output(), nil)})}
	for _, spec := range specs {
		if group, ok := strings.CutPrefix(spec, "group="); ok {
			cfg.Group = group
			continue
		}
		if rack, ok := strings.CutPrefix(spec, "rack="); ok {
			cfg.Rack = rack
			continue
		}
		route, err := ParseRoute(spec)
		if err != nil {
			t.Fatal(err)
		}
		cfg.Routes = append(cfg.Routes, route)
	}
	c, err := New(cfg, sink)
	if err != nil {
		t.Fatal(err)
	}
	c.reader.stallAfter = time.Second
	return c
}

// run runs the consumer until the test ends.
func run(t *testing.T, c *Consumer) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

// topicID returns the topic's ID as the consumer knows it.
func topicID(t *testing.T, c *Consumer, topic string) [16]byte {
	t.Helper()
	_, id, err := c.topics.leaderOf(Partition{Topic: topic, ID: 0})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func sortedCopy(lines []string) []string { return slices.Sorted(slices.Values(lines)) }

func produce(t *testing.T, p *Producer, topic, key, value string) Position {
	t.Helper()
	m := Message{Topic: topic, Value: []byte(value)}
	if key != "" {
		m.Key = []byte(key)
	}
	pos, err := p.Produce(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	return pos.Position
}

// TestRecordsReachTheirUsers checks that the sink receives the records of all kinds of routes, also the
// first record of a topic that was missing before, and no records of a topic that nobody has joined.
func TestRecordsReachTheirUsers(t *testing.T) {
	c, sink, producer := start(t, []string{"shared", "all"}, "shared", "all,kind=broadcast", "own.{user}")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	sources, err := c.Join(ctx, "alice")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]UserTopic{{Topic: "all", Broadcast: true}, {Topic: "own.alice", Own: true}, {Topic: "shared"}}, sources); diff != "" {
		t.Fatalf("topics (-want +got):\n%s", diff)
	}
	if err := c.Ready(); err != nil {
		t.Errorf("Ready: %v", err)
	}
	produce(t, producer, "shared", "alice", "a")
	produce(t, producer, "shared", "bob", "b")
	produce(t, producer, "all", "", "c")
	produce(t, producer, "own.alice", "", "first ever")
	produce(t, producer, "own.bob", "", "nobody joined for it")
	want := []string{"* c", "alice a", "alice first ever", "bob b"}
	if diff := cmp.Diff(want, sink.sorted(t, len(want))); diff != "" {
		t.Error(diff)
	}
}

// TestReplayReturnsOneUsersRecords checks that a replay returns the records of one user in a range of
// offsets, and that it continues where its caller stopped it.
func TestReplayReturnsOneUsersRecords(t *testing.T) {
	c, _, producer := start(t, []string{"shared"}, "shared")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := c.Join(ctx, "alice"); err != nil {
		t.Fatal(err)
	}
	var first, last Position
	for i := range 20 {
		pos := produce(t, producer, "shared", "alice", fmt.Sprint(i))
		if i == 0 {
			first = pos
		}
		last = pos
		produce(t, producer, "shared", "bob", "not alice's")
	}
	var got []string
	next, err := replayOne(ctx, c, first.Partition, topicID(t, c, "shared"), "alice", first.Offset, last.Offset, func(r *Record) bool {
		if string(r.Value) == "7" && len(got) == 7 {
			return false
		}
		got = append(got, line(r))
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	next, err = replayOne(ctx, c, first.Partition, topicID(t, c, "shared"), "alice", next, last.Offset, func(r *Record) bool {
		got = append(got, line(r))
		return true
	})
	if err != nil || next != last.Offset {
		t.Fatalf("the replay ends at offset %d with error %v, want offset %d", next, err, last.Offset)
	}
	var want []string
	for i := range 19 {
		want = append(want, fmt.Sprintf("alice %d", i))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	_, err = replayOne(ctx, c, first.Partition, topicID(t, c, "shared"), "alice", 1_000_000, 1_000_001, func(*Record) bool { return true })
	if _, ok := errors.AsType[*OutOfRangeError](err); !ok {
		t.Errorf("a replay from an offset after the end: error %v, want an OutOfRangeError", err)
	}
}

// TestUsersThatHaveNoTopicAreRefused checks that a user is refused if the name does not make a valid topic,
// or makes a topic that another route reads.
func TestUsersThatHaveNoTopicAreRefused(t *testing.T) {
	rs, err := newRoutes([]Route{{Topic: "n.{user}", Kind: PerUser}, {Topic: "n.admin"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{"", "admin", "a/b", "a\x00b", "{user}", "é"} {
		if _, err := rs.userTopics(user); !errors.Is(err, ErrUserTopic) {
			t.Errorf("user %q: %v, want ErrUserTopic", user, err)
		}
	}
}

// TestParseRoute checks that invalid routes are refused, and that a valid route is parsed.
func TestParseRoute(t *testing.T) {
	for _, text := range []string{
		"", "{user}", "a.{user}.{user}", "a,kind=odd", "a,kind", "a,x=y", "__consumer_offsets", "a b", "a,user=header:", "a,kind=broadcast,user=header:x", "a.{user},kind=shared", "a,user=json:", "a,user=json:owner", "a,user=json:/a~2", "a,user=json:/a~", "a.{user},user=json:/a", "a,user=json:/x,partitioner=crc32", "a,partitioner=md5",
		"a,partitioner=", "a,user=header:x,partitioner=crc32", "a.{user},partitioner=crc32", "a,kind=broadcast,partitioner=crc32",
	} {
		if r, err := ParseRoute(text); err == nil {
			t.Errorf("the invalid route %q is parsed as %+v", text, r)
		}
	}
	got, err := ParseRoute("orders,user=header:owner")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Route{Topic: "orders", Kind: Shared, UserHeader: "owner"}, got); diff != "" {
		t.Error(diff)
	}
}

// TestMessageForOneUserIsNeverBroadcast checks that a message for one user never goes to a topic that other
// users read.
func TestMessageForOneUserIsNeverBroadcast(t *testing.T) {
	list := []Route{{Topic: "n.{user}", Kind: PerUser}, {Topic: "n.all", Kind: Broadcast}}
	for _, user := range []string{"all", "a/b", "a\nb"} {
		if m, ok := MessageFor(list, user); ok {
			t.Errorf("a message for %q goes to %q", user, m.Topic)
		}
	}
	for user, want := range map[string]string{"alice": "n.alice", "": "n.all"} {
		if m, ok := MessageFor(list, user); !ok || m.Topic != want {
			t.Errorf("a message for %q goes to %q, want %q", user, m.Topic, want)
		}
	}
}
