package consumer

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"herald/consumer/broker"
)

// sequence produces n records, one after another, and returns their lines.
func sequence(t *testing.T, p *Producer, topic, key, name string, n int) []string {
	t.Helper()
	var want []string
	for i := range n {
		value := fmt.Sprintf("%s%04d", name, i)
		produce(t, p, topic, key, value)
		want = append(want, key+" "+value)
	}
	return want
}

// wantLines waits for the lines, which are sorted, and checks that no other record and no gap arrived.
func (l *ledger) wantLines(t *testing.T, want []string) {
	t.Helper()
	if diff := cmp.Diff(want, l.sorted(t, len(want))); diff != "" {
		t.Error(diff)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.gaps) > 0 {
		t.Errorf("gaps %+v, want none", l.gaps)
	}
}

// waitGap waits for a gap and returns it.
func (l *ledger) waitGap(t *testing.T) Gap {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		l.mu.Lock()
		gaps := l.gaps
		l.mu.Unlock()
		if len(gaps) > 0 {
			return gaps[0]
		}
		if time.Now().After(deadline) {
			t.Fatal("no gap arrived within a minute")
		}
	}
}

// ready waits until the consumer is ready.
func ready(t *testing.T, c *Consumer) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); c.Ready() != nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(c.Ready())
		}
	}
}

// TestPassingFetchErrorsLoseNoRecord checks that each record arrives once although the broker answers
// fetches with an error that passes, for one partition or for the whole fetch.
func TestPassingFetchErrorsLoseNoRecord(t *testing.T) {
	for _, test := range []struct {
		err      *kerr.Error
		topLevel bool
	}{
		{kerr.NotLeaderForPartition, false},
		{kerr.FencedLeaderEpoch, false},
		{kerr.UnknownLeaderEpoch, false},
		{kerr.ReplicaNotAvailable, false},
		{kerr.OffsetNotAvailable, false},
		{kerr.KafkaStorageError, false},
		{kerr.UnknownTopicID, false},
		{kerr.InconsistentTopicID, false},
		{kerr.UnknownServerError, false},
		{kerr.TopicAuthorizationFailed, false},
		{kerr.FetchSessionIDNotFound, true},
		{kerr.InvalidFetchSessionEpoch, true},
		{kerr.UnknownServerError, true},
	} {
		t.Run(fmt.Sprintf("%s top level %v", test.err.Message, test.topLevel), func(t *testing.T) {
			t.Parallel()
			broker, c, sink, producer := startOn(t, nil, []string{"t"}, "t")
			ready(t, c)
			want := sequence(t, producer, "t", "alice", "a", 10)
			fault := broker.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, TopLevel: test.topLevel, Err: test.err, Count: 3})
			want = append(want, sequence(t, producer, "t", "alice", "b", 10)...)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			if err := fault.Wait(ctx, 3); err != nil {
				t.Fatal(err)
			}
			want = append(want, sequence(t, producer, "t", "alice", "c", 10)...)
			sink.wantLines(t, want)
		})
	}
}

// TestMovingLeadersLoseNoRecord checks that all records arrive while all partitions move between three
// brokers.
func TestMovingLeadersLoseNoRecord(t *testing.T) {
	t.Parallel()
	broker, c, sink, producer := startOn(t, []kfake.Opt{kfake.NumBrokers(3)}, []string{"t"}, "t")
	ready(t, c)
	var want []string
	for round := range 10 {
		broker.ShufflePartitionLeaders()
		for user := range 5 {
			want = append(want, sequence(t, producer, "t", fmt.Sprint("user", user), fmt.Sprint(round, "."), 5)...)
		}
	}
	sink.wantLines(t, sortedCopy(want))
}

// TestDeniedTopicDoesNotStopOthers checks that records of other topics arrive while Kafka denies one topic,
// and that this topic is read once it is allowed.
func TestDeniedTopicDoesNotStopOthers(t *testing.T) {
	t.Parallel()
	broker := newBroker(t, kfake.SeedTopics(1, "good", "denied"))
	denied := broker.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Topic: "denied", Err: kerr.TopicAuthorizationFailed, Count: -1})
	c, sink, producer := startAt(t, broker, "good", "denied")
	begun := func(topic string) bool {
		sink.mu.Lock()
		defer sink.mu.Unlock()
		_, ok := sink.begun[Partition{Topic: topic, ID: 0}]
		return ok
	}
	waitFor(t, "the allowed topic is read", func() bool { return begun("good") })
	if topics, err := c.Join(t.Context(), "alice"); err != nil || !slices.Equal(topics, []UserTopic{{Topic: "good"}}) {
		t.Errorf("Join: %+v, error %v, want the allowed topic alone", topics, err)
	}
	want := sequence(t, producer, "good", "alice", "g", 3)
	sink.wantLines(t, want)
	if err := c.Ready(); err == nil || !strings.Contains(err.Error(), "denied") {
		t.Errorf("Ready: %v, want an error that names the denied topic", err)
	}
	denied.Remove()
	ready(t, c)
	want = append(sequence(t, producer, "denied", "alice", "d", 3), want...)
	sink.wantLines(t, want)
}

// TestRecreatedTopicIsReportedAsAGap checks that the sink receives a gap for a topic that was deleted and
// created again, and then the new topic's records from its start.
func TestRecreatedTopicIsReportedAsAGap(t *testing.T) {
	t.Parallel()
	broker, c, sink, producer := startOn(t, nil, []string{"t"}, "t")
	ready(t, c)
	sequence(t, producer, "t", "alice", "old", 5)
	sink.sorted(t, 5)
	if err := broker.DeleteTopic("t"); err != nil {
		t.Fatal(err)
	}
	if err := broker.CreateTopic("t", 3, nil); err != nil {
		t.Fatal(err)
	}
	sequence(t, producer, "t", "alice", "new", 5)
	if gap := sink.waitGap(t); gap.Reason != GapRecreated || gap.To != 0 {
		t.Errorf("gap %+v, want reason %s and offset 0 to continue from", gap, GapRecreated)
	}
	lines := sink.sorted(t, 10)
	if diff := cmp.Diff([]string{"alice new0000", "alice new0001", "alice new0002", "alice new0003", "alice new0004"}, lines[:5]); diff != "" {
		t.Error(diff)
	}
}

// TestDeletedRecordsAreReportedAsAGap checks that the sink receives a gap for records that Kafka deleted
// before the consumer could read them.
func TestDeletedRecordsAreReportedAsAGap(t *testing.T) {
	t.Parallel()
	broker, c, sink, producer := startOn(t, nil, []string{"t"}, "t")
	ready(t, c)
	refused := broker.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: "t", Err: kerr.KafkaStorageError, Count: -1})
	var last Position
	for i := range 10 {
		last = produce(t, producer, "t", "alice", fmt.Sprint(i))
	}
	if err := broker.DeleteRecords("t", last.ID, 7); err != nil {
		t.Fatal(err)
	}
	refused.Remove()
	if diff := cmp.Diff([]string{"alice 7", "alice 8", "alice 9"}, sink.sorted(t, 3)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(Gap{From: 0, To: 7, Reason: GapRetention}, sink.waitGap(t)); diff != "" {
		t.Error(diff)
	}
}

// TestNewPartitionsAreReadFromTheirStart checks that records arrive which were written to new partitions
// before the consumer could know of these partitions.
func TestNewPartitionsAreReadFromTheirStart(t *testing.T) {
	t.Parallel()
	_, c, sink, producer := startOn(t, nil, []string{"t"}, "t")
	ready(t, c)
	req := kmsg.NewPtrCreatePartitionsRequest()
	req.Version = 3
	req.TimeoutMillis = 5000
	topic := kmsg.NewCreatePartitionsRequestTopic()
	topic.Topic, topic.Count = "t", 12
	req.Topics = append(req.Topics, topic)
	res, err := producer.cluster.Request(t.Context(), broker.Any, req, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := kerr.ErrorForCode(res.(*kmsg.CreatePartitionsResponse).Topics[0].ErrorCode); err != nil {
		t.Fatal(err)
	}
	var want []string
	for user := range 20 {
		want = append(want, sequence(t, producer, "t", fmt.Sprint("user", user), "v", 2)...)
	}
	sink.wantLines(t, sortedCopy(want))
}

// TestFollowerNamedByTheLeaderIsRead checks that the consumer reads from the follower that the leader
// names, live and in a replay, and from the leader again when the follower refuses.
func TestFollowerNamedByTheLeaderIsRead(t *testing.T) {
	t.Parallel()
	broker := newBroker(t, kfake.NumBrokers(2), kfake.SeedTopics(1, "t"))
	leader := broker.LeaderFor("t", 0)
	follower := 1 - leader
	broker.SetFollowers("t", 0, []int32{follower})
	served := broker.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Nodes: []int32{follower}, Observe: true, Count: -1})
	var alone atomic.Bool    // the leader names no follower any more
	var replays atomic.Int32 // replay fetches that reached the leader
	broker.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		broker.KeepControl()
		fetch := req.(*kmsg.FetchRequest)
		if fetch.SessionEpoch == -1 && broker.CurrentNode() == leader && fetch.Rack != "" {
			replays.Add(1)
		}
		if broker.CurrentNode() != leader || fetch.Rack == "" || len(fetch.Topics) == 0 || alone.Load() {
			return nil, nil, false
		}
		res := fetch.ResponseKind().(*kmsg.FetchResponse)
		part := kmsg.NewFetchResponseTopicPartition()
		part.PreferredReadReplica = follower
		res.Topics = append(res.Topics, kmsg.FetchResponseTopic{TopicID: fetch.Topics[0].TopicID, Partitions: []kmsg.FetchResponseTopicPartition{part}})
		return res, nil, true
	})
	c, sink, producer := startAt(t, broker, "t", "rack=r")
	ready(t, c)
	want := sequence(t, producer, "t", "alice", "a", 5)
	sink.wantLines(t, want)
	if served.Hits() == 0 {
		t.Error("the consumer fetched nothing from the follower")
	}
	forgetTail(t, c, Partition{Topic: "t", ID: 0})
	replay := func() {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second) // the consumer once asked without end
		defer cancel()
		count := 0
		next, err := replayOne(ctx, c, Partition{Topic: "t", ID: 0}, topicID(t, c, "t"), "alice", 0, 5, func(*Record) bool { count++; return true })
		if next != 5 || count != 5 || err != nil {
			t.Errorf("the replay of 5 records returned %d records up to offset %d, error %v", count, next, err)
		}
	}
	replay()
	if n := replays.Load(); n != 1 {
		t.Errorf("the replay asked the leader %d times which broker to read from, want once", n)
	}
	broker.SetFollowers("t", 0, nil) // the follower now answers NOT_LEADER_OR_FOLLOWER
	replay()
	alone.Store(true)
	want = append(want, sequence(t, producer, "t", "alice", "b", 5)...)
	sink.wantLines(t, want)
}
