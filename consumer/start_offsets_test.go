package consumer

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"

	"herald/consumer/broker"
)

// twoBrokers starts two brokers. Broker 0 leads the first topic, broker 1 the second topic.
func twoBrokers(t *testing.T, hearing *ears, first, second string) *kfake.Cluster {
	t.Helper()
	broker := newBroker(t, kfake.NumBrokers(2), kfake.SeedTopics(1, first, second), hearing.listen())
	for i, topic := range []string{first, second} {
		if err := broker.MoveTopicPartition(topic, 0, int32(i)); err != nil {
			t.Fatal(err)
		}
	}
	return broker
}

// joining starts a Join of the user and closes the channel when Join has returned.
func joining(t *testing.T, c *Consumer, user string) (joined chan struct{}) {
	t.Helper()
	joined = make(chan struct{})
	go func() {
		defer close(joined)
		if _, err := c.Join(t.Context(), user); err != nil {
			t.Errorf("Join of %s failed: %v", user, err)
		}
	}()
	return joined
}

// finishes waits up to a minute until done is closed.
func finishes(t *testing.T, what string, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal(what + " took more than a minute")
	}
}

// TestUsersJoinWhileTheLeaderOfAnotherUserIsSilent checks a broker 0 that takes connections and requests and does
// not answer. The user whose topic broker 0 leads joins once the broker answers. Other users join before that.
func TestUsersJoinWhileTheLeaderOfAnotherUserIsSilent(t *testing.T) {
	t.Parallel()
	var hearing ears
	broker := twoBrokers(t, &hearing, "n.zero", "n.one")
	c, sink, _ := startAt(t, broker, "n.{user}")
	write := partitioned(t, broker)
	finishes(t, "the first Join", joining(t, c, "nobody"))
	for _, topic := range []string{"n.zero", "n.one"} { // while all brokers answer the producer
		write(topic, 0, "", "before")
	}
	hearing[0].Store(true)
	zero := joining(t, c, "zero")
	for i := range 5 { // the topics of these users do not exist; all must join before the request to broker 0 times out
		finishes(t, "Join of another user", joining(t, c, fmt.Sprint("none", i)))
	}
	finishes(t, "Join of one", joining(t, c, "one"))
	select {
	case <-zero:
		t.Error("user zero joined although the leader of its topic does not answer")
	default:
	}
	if n := count(c, errorOther); n > 0 {
		t.Errorf("%v requests to the silent leader timed out before the other users joined, want none", n)
	}
	write("n.one", 0, "", "x")
	want := []string{"one x"}
	sink.wantLines(t, want)
	hearing[0].Store(false)
	finishes(t, "Join of zero", zero)
	write("n.zero", 0, "", "y")
	sink.wantLines(t, append(want, "zero y"))
}

// TestTopicIsReadAtStartWhileTheLeaderOfAnotherIsSilent checks a start while the leader of topic zero does not
// answer. The consumer reads topic one and is not ready. Once the leader answers, the consumer is ready and
// reads topic zero from its end.
func TestTopicIsReadAtStartWhileTheLeaderOfAnotherIsSilent(t *testing.T) {
	t.Parallel()
	var hearing ears
	broker := twoBrokers(t, &hearing, "zero", "one")
	sink := newLedger()
	c := configured(t, broker.ListenAddrs(), sink, "zero", "one")
	said := hear(t, c)
	write := partitioned(t, broker)
	for _, topic := range []string{"zero", "one"} { // while all brokers answer the producer
		write(topic, 0, "a", "before")
	}
	hearing[0].Store(true)
	run(t, c)
	waitFor(t, "the consumer reads topic one", func() bool { return sink.reads("one") })
	write("one", 0, "a", "x")
	sink.wantLines(t, []string{"a x"})
	if err := c.Ready(); err == nil || sink.reads("zero") {
		t.Errorf("Ready returns %v and zero is read: %v, want an error and false while the leader of zero does not answer", err, sink.reads("zero"))
	}
	said.wait(t, "WARN broker cannot be read; retrying broker=0 sessions=0 partitions=1 topic=zero partition=0 offset=-1 error=…")
	hearing[0].Store(false)
	ready(t, c)
	write("zero", 0, "a", "y")
	sink.wantLines(t, []string{"a x", "a y"})
}

// TestTopicAppearsOnASilentBroker creates a topic that was missing at the start while its leader does not answer. The
// consumer stays started, and TopicsRead names the topic until the leader answers.
func TestTopicAppearsOnASilentBroker(t *testing.T) {
	t.Parallel()
	var hearing ears
	broker := twoBrokers(t, &hearing, "zero", "one")
	if err := broker.DeleteTopic("zero"); err != nil {
		t.Fatal(err)
	}
	c := configured(t, broker.ListenAddrs()[1:], newLedger(), "zero", "one")
	run(t, c)
	ready(t, c)
	hearing[0].Store(true)
	if err := broker.CreateTopic("zero", 16, nil); err != nil { // broker 0 leads some of the partitions
		t.Fatal(err)
	}
	waitFor(t, "the topic is missed", func() bool { return c.TopicsRead() != nil })
	if err := c.TopicsRead(); !strings.Contains(err.Error(), "topic zero is not read yet") || c.Started() != nil {
		t.Errorf("TopicsRead returns %v and Started %v, want the topic and nil", err, c.Started())
	}
	hearing[0].Store(false)
	ready(t, c)
}

// reads reports whether the topic's first partition is read.
func (l *ledger) reads(topic string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.next[Partition{Topic: topic, ID: 0}]
	return ok
}

// hold makes the consumer read the topic n.a, by a Join of user a that does not wait.
func hold(c *Consumer) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, _ = c.Join(ctx, "a")
}

// TestLateStartOffsetOfAChangedTopicIsIgnored checks a leader's answer that says to start at offset 7 and arrives
// late. Reading starts at 7 if the topic still has the same id and leader, and does not start if the topic has
// changed. A second answer changes nothing.
func TestLateStartOffsetOfAChangedTopicIsIgnored(t *testing.T) {
	p := Partition{Topic: "n.a", ID: 0}
	old, fresh := [16]byte{1}, [16]byte{2}
	found := func(id [16]byte, leaders ...int32) broker.TopicMetadata {
		return broker.TopicMetadata{ID: id, Leaders: leaders}
	}
	for name, test := range map[string]struct {
		meanwhile func(c *Consumer, adopt func(broker.TopicMetadata))
		want      map[Partition]int64
	}{
		"nothing":        {func(*Consumer, func(broker.TopicMetadata)) {}, map[Partition]int64{p: 7}},
		"the same again": {func(_ *Consumer, adopt func(broker.TopicMetadata)) { adopt(found(old, 0)) }, map[Partition]int64{p: 7}},
		"grown":          {func(_ *Consumer, adopt func(broker.TopicMetadata)) { adopt(found(old, 0, 0)); adopt(found(old, 0, 0)) }, map[Partition]int64{p: 7}},
		"no leader now":  {func(_ *Consumer, adopt func(broker.TopicMetadata)) { adopt(found(old, -1)) }, map[Partition]int64{p: 7}},
		"another leader": {func(_ *Consumer, adopt func(broker.TopicMetadata)) { adopt(found(old, 1)) }, map[Partition]int64{}},
		"deleted": {func(_ *Consumer, adopt func(broker.TopicMetadata)) {
			adopt(broker.TopicMetadata{Err: kerr.UnknownTopicOrPartition})
		}, map[Partition]int64{}},
		"created again": {func(_ *Consumer, adopt func(broker.TopicMetadata)) { adopt(found(fresh, 0)); adopt(found(fresh, 0)) }, map[Partition]int64{}},
		"outdated": {func(_ *Consumer, adopt func(broker.TopicMetadata)) {
			adopt(found(fresh, 0))
			adopt(found(fresh, 0))
			adopt(found(old, 0))
		}, map[Partition]int64{}},
		"left":              {func(c *Consumer, _ func(broker.TopicMetadata)) { retire(c) }, map[Partition]int64{}},
		"left and back":     {func(c *Consumer, _ func(broker.TopicMetadata)) { retire(c); hold(c) }, map[Partition]int64{}},
		"left, back, found": {func(c *Consumer, adopt func(broker.TopicMetadata)) { retire(c); hold(c); adopt(found(old, 0)) }, map[Partition]int64{}},
	} {
		t.Run(name, func(t *testing.T) {
			sink := newLedger()
			c := configured(t, []string{"127.0.0.1:1"}, sink, "n.{user}")
			c.reader.ctx = t.Context()
			c.topics.userLinger = -1
			t.Cleanup(c.cluster.Close)
			t.Cleanup(c.reader.wg.Wait)
			hold(c)
			starts := c.poller.starts
			adopt := func(m broker.TopicMetadata) {
				c.poller.adoptAll([]string{"n.a"}, map[string]broker.TopicMetadata{"n.a": m}, nil)
			}
			adopt(found(old, 0))
			about := starts.wanted[0]
			delete(starts.wanted, 0)
			late := startOffsetsAnswer{leader: 0, starts: about, offsets: map[Partition]int64{p: 7}}
			test.meanwhile(c, adopt)
			starts.acceptAnswer(late)
			late.offsets[p] = 8
			starts.acceptAnswer(late)
			if diff := cmp.Diff(test.want, sink.begun); diff != "" {
				t.Errorf("partitions begun (-want +got):\n%s", diff)
			}
			c.topics.mu.Lock()
			now := c.topics.states["n.a"]
			c.topics.mu.Unlock()
			if len(test.want) == 1 && (now == nil || now.starts[0] != nil) {
				t.Errorf("the topic still waits for a start offset: %+v", now)
			}
		})
	}
}

// retire stops reading the topics of users who have left, as the poller does.
func retire(c *Consumer) {
	for name, partitions := range c.topics.removeDeparted() {
		c.reader.endTopic(name, partitions)
	}
}

// turns is a ledger that also records the calls of Begin and End in order.
type turns struct {
	*ledger
	calls []string // guarded by ledger.mu
}

func (s *turns) Begin(p Partition, id [16]byte, next int64) {
	s.ledger.Begin(p, id, next)
	s.add("begin", p)
}

func (s *turns) End(p Partition) {
	s.ledger.End(p)
	s.add("end", p)
}

func (s *turns) add(what string, p Partition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, what+" "+p.Topic)
}

func (s *turns) list() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

// TestUserTopicLingersAfterTheUserLeaves checks that the topic of a user who has left is still read if the user
// joins again in time. Later, the topic is not read until the user joins again.
func TestUserTopicLingersAfterTheUserLeaves(t *testing.T) {
	for name, linger := range map[string]time.Duration{"in time": time.Hour, "too late": 10 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			broker := newBroker(t, kfake.SeedTopics(1, "n.a", "n.b", "n.c"))
			sink := &turns{ledger: newLedger()}
			c := configured(t, broker.ListenAddrs(), sink, "n.{user}")
			c.topics.userLinger = linger
			run(t, c)
			write := partitioned(t, broker)
			finishes(t, "Join of a", joining(t, c, "a"))
			finishes(t, "Join of b", joining(t, c, "b"))
			c.Leave("a")
			lines, calls := []string{"a while away", "b 1"}, []string{"begin n.a", "begin n.b", "begin n.c"}
			if name == "in time" {
				finishes(t, "Join of c", joining(t, c, "c")) // topics that have to end have ended before this Join returns
			} else {
				lines, calls = lines[1:], []string{"begin n.a", "begin n.b", "end n.a", "begin n.a"}
				waitFor(t, "the topic of user a ends", func() bool { return len(sink.list()) == 3 })
				sink.mu.Lock()
				delete(sink.ids, "n.a") // without Kafka's id, it is another topic for the sink when it begins again
				sink.mu.Unlock()
			}
			write("n.a", 0, "", "while away")
			write("n.b", 0, "", "1")
			sink.wantLines(t, lines)
			finishes(t, "Join again of a", joining(t, c, "a"))
			write("n.a", 0, "", "back")
			sink.wantLines(t, sortedCopy(append(lines, "a back")))
			if diff := cmp.Diff(calls, sink.list()); diff != "" {
				t.Errorf("calls of Begin and End (-want +got):\n%s", diff)
			}
		})
	}
}
