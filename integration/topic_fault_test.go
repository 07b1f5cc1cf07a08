package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// TestPartitionAdded adds partitions to a topic while one stream is open and another stream is cut. Both streams must
// receive the new partitions from their first record.
func TestPartitionAdded(t *testing.T) {
	b := sharedBroker(t)
	topic := b.newTopic(t, "shared", 1)
	h := startHerald(t, b, "--topic="+topic)
	open, cut := openStream(t, h, "alice"), openStream(t, h, "alice")
	cut.Cut()
	if _, err := b.admin.CreatePartitions(t.Context(), 2, topic); err != nil {
		t.Fatalf("more partitions of %s: %v", topic, err)
	}
	var want []string
	for partition := range 3 {
		value := fmt.Sprint("in ", partition)
		b.produceAnew(t, inPartition(int32(partition), record(topic, "alice", value)))
		want = append(want, value)
	}
	cut.Reconnect()
	for name, s := range map[string]*eventSource{"open": open, "cut": cut} {
		got := s.Values(3)
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s stream (-want +got):\n%s", name, diff)
		}
	}
	h.wantLine(`level=INFO msg="partitions were added to the topic" topic=` + topic + ` from=1 to=3`)
}

// TestTopicRecreated deletes a topic and creates it again, under an open stream and while another stream is cut.
// Both streams must receive a gap, all records of the new topic and none of the old topic.
func TestTopicRecreated(t *testing.T) {
	b := sharedBroker(t)
	topic := b.newTopic(t, "shared", 1)
	h := startHerald(t, b, "--topic="+topic)
	open, cut := openStream(t, h, "alice"), openStream(t, h, "alice")
	for n := range 3 {
		b.produce(t, record(topic, "alice", fmt.Sprint("old ", n)))
	}
	open.Values(3)
	cut.Values(2)
	cut.Cut()
	old, err := b.admin.ListTopics(t.Context(), topic)
	if err == nil {
		_, err = b.admin.DeleteTopics(t.Context(), topic)
	}
	if err != nil {
		t.Fatalf("delete %s: %v", topic, err)
	}
	want := []string{"new 0", "new 1", "new 2", "new 3", "new 4"}
	waitFor(t, topic+" is created again", func(ctx context.Context) bool {
		_, err := b.admin.CreateTopic(ctx, 1, 1, nil, topic)
		if !errors.Is(err, kerr.TopicAlreadyExists) {
			return err == nil
		}
		// It may be the new topic, if the answer of a busy broker was lost.
		found, err := b.admin.ListTopics(ctx, topic)
		return err == nil && found.Error() == nil && found[topic].ID != old[topic].ID
	})
	for _, value := range want {
		b.produceAnew(t, record(topic, "alice", value))
	}
	gap := open.Gap()
	if want := (lossGap{Source: topic, Reason: "recreated"}); gap != want {
		t.Errorf("under the open stream: gap %+v, want %+v", gap, want)
	}
	if diff := cmp.Diff(want, open.Values(len(want))); diff != "" {
		t.Errorf("open stream (-want +got):\n%s", diff)
	}
	cut.Reconnect()
	gap = cut.Gap()
	if want := (lossGap{Source: topic, Reason: "recreated"}); gap != want {
		t.Errorf("between connections: gap %+v, want %+v", gap, want)
	}
	if diff := cmp.Diff(want, cut.Values(len(want))); diff != "" {
		t.Errorf("cut stream (-want +got):\n%s", diff)
	}
	b.produceAnew(t, record(topic, "alice", "newest"))
	for name, s := range map[string]*eventSource{"open": open, "cut": cut} {
		s.Reconnect() // with the id of the new topic
		if got := s.Record().Data; got != "newest" {
			t.Errorf("%s stream, connected again: %q, want the record that is new", name, got)
		}
	}
	h.wantErrors("gone")
	h.wantLine(`level=WARN msg="topic was deleted and created again" topic=` + topic)
}

// produceAnew writes the records with a client that knows nothing of the topic yet.
func (b *broker) produceAnew(t *testing.T, records ...*kgo.Record) {
	t.Helper()
	if err := b.newProducer(t, records[0].Topic, records[0].Partition).ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatalf("produce to %s: %v", records[0].Topic, err)
	}
}

// newProducer waits until the topic has the partition, and returns a new producer.
func (b *broker) newProducer(t *testing.T, topic string, partition int32) *kgo.Client {
	t.Helper()
	waitFor(t, "the topic takes records", func(ctx context.Context) bool {
		found, err := b.admin.ListTopics(ctx, topic)
		return err == nil && found.Error() == nil && len(found[topic].Partitions) > int(partition)
	})
	client, err := kgo.NewClient(kgo.SeedBrokers(b.addresses...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatalf("producer: %v", err)
	}
	t.Cleanup(client.Close)
	return client
}

// TestRetention resumes before and after the start of the log. A client that missed deleted records must receive a
// gap and then all retained records.
func TestRetention(t *testing.T) {
	const written = 10
	for name, test := range map[string]struct {
		config []string
		reduce func(t *testing.T, b *broker, topic string)
	}{
		"DeleteRecords": {nil, func(t *testing.T, b *broker, topic string) {
			t.Helper()
			var to kadm.Offsets
			to.Add(kadm.Offset{Topic: topic, At: 6, LeaderEpoch: -1})
			if _, err := b.admin.DeleteRecords(t.Context(), to); err != nil {
				t.Fatalf("delete records of %s: %v", topic, err)
			}
		}},
		"retention.ms": {
			[]string{"retention.ms", "600000", "segment.ms", "1000", "file.delete.delay.ms", "100"},
			func(t *testing.T, b *broker, _ string) {
				t.Helper()
				b.ownContainer(t, "retention, which Kafka looks at every five minutes by default")
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := sharedBroker(t)
			topic := b.newTopic(t, "shared", 1, test.config...)
			h := startHerald(t, b, "--topic="+topic)
			alice := openStream(t, h, "alice")
			ids := []string{alice.LastID}
			for n := range written {
				r := record(topic, "alice", fmt.Sprint(n))
				r.Timestamp = time.Now()
				if n < 6 { // older than the retention, and each in a segment of its own
					r.Timestamp = r.Timestamp.Add(time.Duration(n-100) * time.Minute)
				}
				b.produce(t, r)
				// Where Kafka deletes it before it is read that is a loss, too, but not this test's.
				if name == "DeleteRecords" {
					ids = append(ids, alice.Record().ID)
				}
			}
			test.reduce(t, b, topic)
			var start int64
			waitFor(t, "the first records are deleted", func(ctx context.Context) bool {
				starts, err := b.admin.ListStartOffsets(ctx, topic)
				first, _ := starts.Lookup(topic, 0)
				start = first.Offset
				return err == nil && start >= 6
			})
			// Kafka reports the start of a log with the answer to a fetch, which may wait for a second. Until then Herald
			// sends deleted records from memory.
			waitFor(t, "Herald knows the start of the log", func(context.Context) bool {
				s := newStream(t, h.public, "alice")
				defer s.Cut()
				s.LastID = ids[0]
				s.Reconnect()
				return s.Event().Type == "gap"
			})
			for at, id := range ids {
				s := newStream(t, h.public, "alice")
				s.LastID = id
				s.Reconnect()
				if int64(at) < start {
					if gap, want := s.Gap(), (lossGap{topic, 0, int64(at), start, "retention"}); gap != want {
						t.Errorf("resumed before %d: gap %+v, want %+v", at, gap, want)
					}
				}
				want := []string{}
				for n := max(start, int64(at)); n < written; n++ {
					want = append(want, fmt.Sprint(n))
				}
				if diff := cmp.Diff(want, s.Values(len(want))); diff != "" {
					t.Errorf("resumed before %d (-want +got):\n%s", at, diff)
				}
				s.Cut()
			}
			b.produce(t, record(topic, "alice", "next"))
			if name == "DeleteRecords" { // the stream that was open all along has lost nothing
				if got := alice.Record().Data; got != "next" {
					t.Errorf("the open stream got %q, want the next record", got)
				}
			}
		})
	}
}

// TestCompaction resumes from ids whose records, and the records after them, were removed by compaction.
// Compaction is not a loss, so there must be no gap, and each record still in the log must arrive once.
func TestCompaction(t *testing.T) {
	b := sharedBroker(t)
	b.ownContainer(t, "compaction, which Kafka puts off by default")
	topic := b.newTopic(t, "compacted", 1, "cleanup.policy", "compact", "segment.ms", "1000",
		"min.cleanable.dirty.ratio", "0.001", "min.compaction.lag.ms", "0", "max.compaction.lag.ms", "1000", "file.delete.delay.ms", "100")
	h := startHerald(t, b, "--topic="+topic+",user=header:owner")
	alice := openStream(t, h, "alice")
	ids := []string{alice.LastID}
	write := func(key, value string, n int) {
		b.produce(t, &kgo.Record{
			Topic: topic, Key: []byte(key), Value: []byte(value), Headers: []kgo.RecordHeader{{Key: "owner", Value: []byte("alice")}},
			Timestamp: time.Now().Add(time.Duration(n) * time.Minute), // each in a segment of its own
		})
	}
	for n := range 20 {
		write(strings.Repeat("k", 1+n%4), fmt.Sprint(n), n-100)
		if got := alice.Record(); got.Data != fmt.Sprint(n) {
			t.Fatalf("got %q, want %d", got.Data, n)
		}
		ids = append(ids, alice.LastID)
	}
	write("other", "last", 0)
	ids = append(ids, alice.Record().ID)
	var left []*kgo.Record
	waitFor(t, "old values are removed", func(context.Context) bool {
		left = b.recordsOf(t, topic, 0)
		return len(left) == 5
	})
	h.End(os.Interrupt) // its memory has the records that compaction has removed
	h.Start()
	for at, id := range ids {
		s := newStream(t, h.public, "alice")
		s.LastID = id
		s.Reconnect()
		want := []string{}
		for _, r := range left {
			if r.Offset >= int64(at) {
				want = append(want, string(r.Value))
			}
		}
		if diff := cmp.Diff(want, s.Values(len(want))); diff != "" {
			t.Errorf("resumed before %d (-log +got):\n%s", at, diff)
		}
		if at == 0 || at == len(ids)-1 { // fails if an earlier record comes again
			write("another", fmt.Sprint("after ", at), at)
			if got := s.Record().Data; got != fmt.Sprint("after ", at) {
				t.Errorf("resumed before %d: %q came where a new record was expected", at, got)
			}
			left = b.recordsOf(t, topic, 0)
		}
		s.Cut()
	}
}
