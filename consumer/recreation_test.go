package consumer

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"herald/consumer/batch"
)

// kinds returns options for brokers that differ in how they name topics.
func kinds() map[string]kfake.Opt {
	sparse := kversion.V2_1_0()
	sparse.SetMaxKeyVersion(int16(kmsg.Fetch), 6)
	sparse.SetMaxKeyVersion(int16(kmsg.Metadata), 5)
	return map[string]kfake.Opt{
		"no sessions, epochs or ids": kfake.MaxVersions(sparse),            // as Event Hubs
		"no ids":                     kfake.MaxVersions(kversion.V2_1_0()), // as Redpanda
		"ids in metadata":            kfake.MaxVersions(kversion.V2_8_0()), // and Kafka 3.0
		"ids":                        kfake.MaxVersions(nil),
	}
}

// recreate deletes a topic and creates it again.
func recreate(t *testing.T, b *kfake.Cluster, topic string, partitions int32) {
	t.Helper()
	if err := b.DeleteTopic(topic); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * fetchMaxWait) // Kafka ends the fetches of a deleted topic at once, kfake does not
	if err := b.CreateTopic(topic, partitions, nil); err != nil {
		t.Fatal(err)
	}
}

// TestRecreatedTopicIsFound deletes a topic and creates it again while its records are delivered. The sink gets one
// gap, and then all records of the new topic.
func TestRecreatedTopicIsFound(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		before, after int   // how many records the two topics have
		partitions    int32 // of the new topic
	}{
		"shorter":                      {5, 2, 1},
		"as long":                      {5, 5, 1},
		"longer, with more partitions": {5, 20, 3},
	} {
		t.Run(name, func(t *testing.T) {
			for kind, versions := range kinds() {
				t.Run(kind, func(t *testing.T) {
					t.Parallel()
					b, c, sink, producer := startOn(t, []kfake.Opt{versions, kfake.SeedTopics(1, "t", "other")}, nil, "t", "other")
					ready(t, c)
					old := topicID(t, c, "t")
					want := sequence(t, producer, "t", "alice", "old", test.before)
					sink.wantLines(t, want)
					recreate(t, b, "t", test.partitions)
					want = append(sequence(t, producer, "t", "alice", "new", test.after), want...)
					want = append(want, sequence(t, producer, "other", "alice", "other", 2)...)
					sink.wantRecreated(t, want)
					wantOldIDRefused(t, c, old)
				})
			}
		})
	}
}

// wantRecreated waits for the records, and checks that there is one gap.
func (l *ledger) wantRecreated(t *testing.T, want []string) {
	t.Helper()
	if diff := cmp.Diff(sortedCopy(want), l.sorted(t, len(want))); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
	if gap := l.waitGap(t); gap.Reason != GapRecreated || len(l.gaps) != 1 {
		t.Errorf("gaps %+v, want one: %s", l.gaps, GapRecreated)
	}
}

// wantOldIDRefused checks that nothing of a topic that was created again is taken for the topic with the old id.
func wantOldIDRefused(t *testing.T, c *Consumer, old [16]byte) {
	t.Helper()
	id := topicID(t, c, "t")
	if id == old {
		t.Fatal("the new topic has the id of the old one")
	}
	for _, test := range []struct {
		id   [16]byte
		want bool
	}{{old, false}, {id, true}} {
		if err := c.Confirm(t.Context(), "t", test.id); (err == nil) != test.want {
			t.Errorf("Confirm of the id %x: %v", test.id, err)
		}
		if _, _, err := c.Range(t.Context(), Partition{Topic: "t"}, test.id); (err == nil) != test.want {
			t.Errorf("Range of the id %x: %v", test.id, err)
		}
		count := 0
		if _, err := replayOne(t.Context(), c, Partition{Topic: "t"}, test.id, "alice", 0, 1, func(*Record) bool { count++; return true }); (err == nil) != test.want || test.want != (count == 1) {
			t.Errorf("replay of the id %x: %d records, error %v", test.id, count, err)
		}
	}
}

// TestTopicWithFewerPartitionsIsFound creates a topic again with fewer partitions, when nothing else shows that it is
// another topic.
func TestTopicWithFewerPartitionsIsFound(t *testing.T) {
	t.Parallel()
	for kind, versions := range kinds() {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			b, c, sink, producer := startOn(t, []kfake.Opt{versions, kfake.SeedTopics(3, "t")}, nil, "t")
			ready(t, c)
			recreate(t, b, "t", 1)
			sink.wantRecreated(t, sequence(t, producer, "t", "alice", "new", 3))
		})
	}
}

// TestTopicThatIsNotRecreatedContinues makes brokers answer as if the topic had been deleted, and drops connections.
// The sink gets no gap and each record once.
func TestTopicThatIsNotRecreatedContinues(t *testing.T) {
	t.Parallel()
	for name, disturb := range map[string]func(*kfake.Cluster) (end func() error){
		"unknown to all": func(b *kfake.Cluster) func() error {
			return unknown(b, kmsg.Fetch, kmsg.ListOffsets, kmsg.Metadata)
		},
		"unknown to the leader": func(b *kfake.Cluster) func() error {
			return unknown(b, kmsg.Fetch)
		},
		"the witness is deleted": func(b *kfake.Cluster) func() error {
			end := unknown(b, kmsg.Fetch)
			return func() error { return errors.Join(b.DeleteRecords("t", 0, 5), end()) }
		},
		"new epochs": func(b *kfake.Cluster) func() error {
			return func() (err error) {
				for range 3 {
					err = errors.Join(err, b.MoveTopicPartition("t", 0, 1-b.LeaderFor("t", 0)))
					time.Sleep(300 * time.Millisecond)
				}
				return err
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			for kind, versions := range kinds() {
				t.Run(kind, func(t *testing.T) {
					t.Parallel()
					b, c, sink, producer := startOn(t, []kfake.Opt{versions, kfake.NumBrokers(2), kfake.SeedTopics(1, "t")}, nil, "t")
					ready(t, c)
					id := topicID(t, c, "t")
					want := sequence(t, producer, "t", "alice", "a", 5)
					sink.wantLines(t, want)
					end := disturb(b)
					time.Sleep(time.Second)
					if err := end(); err != nil {
						t.Fatal(err)
					}
					want = append(want, sequence(t, producer, "t", "alice", "b", 5)...)
					sink.wantLines(t, want)
					time.Sleep(500 * time.Millisecond)
					sink.mu.Lock()
					defer sink.mu.Unlock()
					if len(sink.gaps) > 0 || len(sink.lines) != len(want) || topicID(t, c, "t") != id {
						t.Errorf("gaps %+v, %d records instead of %d", sink.gaps, len(sink.lines), len(want))
					}
				})
			}
		})
	}
}

// unknown makes the broker answer requests of these kinds as if it did not know the topic t.
func unknown(b *kfake.Cluster, keys ...kmsg.Key) (end func() error) {
	refused := b.Fault(kfake.Fault{Keys: keys, Topic: "t", Err: kerr.UnknownTopicOrPartition, Count: -1})
	return func() error {
		refused.Remove()
		return nil
	}
}

// TestMemoryDoesNotOutliveItsTopic reads chunks of a topic's log, which the cache keeps, and creates the topic again.
// The chunks of the new topic are read from Kafka. While it is in doubt whether a topic was created again, no chunk of
// a topic without id is read.
func TestMemoryDoesNotOutliveItsTopic(t *testing.T) {
	t.Parallel()
	for kind, versions := range kinds() {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			b, c, sink, producer := startOn(t, []kfake.Opt{versions, kfake.SeedTopics(1, "t")}, nil, "t")
			ready(t, c)
			p := Partition{Topic: "t"}
			sink.wantLines(t, sequence(t, producer, "t", "alice", "old", 5))
			before := logID{p, topicID(t, c, "t")}
			read := func(l logID) string {
				k, err := newChunkReader(c.scans.fetcher, zone{logID: l}).read(t.Context(), 0, 1)
				if err != nil || k == nil {
					return fmt.Sprint("error: ", err)
				}
				var r batch.Reader
				var rec batch.Record
				r.Reset(k.batches, nil, 0)
				_, _ = r.Next(&rec)
				return string(rec.Value)
			}
			if got := read(before); got != "old0000" {
				t.Fatalf("chunk of the old topic: %s", got)
			}
			live := c.reader.livePartition(p)
			waitFor(t, "no chunk of a topic in doubt is read", func() bool {
				if k := c.scans.fetcher.cache.findChunk(before, 0); k != nil { // live reading has settled the last doubt too soon
					c.scans.fetcher.cache.removeChunk(k)
				}
				live.doubt()
				return read(before) == "error: "+errInDoubt.Error() || !live.byName.Load()
			})
			live.settle()
			if got := read(before); got != "old0000" {
				t.Fatalf("chunk of a topic that is no longer in doubt: %s", got)
			}
			recreate(t, b, "t", 1)
			sequence(t, producer, "t", "alice", "new", 20)
			sink.waitGap(t)
			sink.sorted(t, 25)
			if got := read(logID{p, topicID(t, c, "t")}); got != "new0000" {
				t.Errorf("chunk of the new topic: %s", got)
			}
		})
	}
}

// TestDeliveredPositionsOfANewTopic creates a user's own topic again. Nothing counts as delivered, whatever was delivered
// of the topic before, also if a stream reports it late.
func TestDeliveredPositionsOfANewTopic(t *testing.T) {
	t.Parallel()
	for kind, versions := range kinds() {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			b, c, sink, producer := startOn(t, []kfake.Opt{versions, kfake.SeedTopics(1, "own.alice")}, nil, "own.{user}")
			if _, err := c.Join(t.Context(), "alice"); err != nil {
				t.Fatal(err)
			}
			p := Partition{Topic: "own.alice"}
			sink.wantLines(t, sequence(t, producer, p.Topic, "alice", "old", 5))
			old := topicID(t, c, p.Topic)
			c.Delivered(p, old, 5)
			wantDelivered := func(want int64) {
				t.Helper()
				waitFor(t, fmt.Sprint("the position is ", want), func() bool {
					got, err := c.DeliveredTo(t.Context(), "alice")
					return err == nil && got[p] == want
				})
			}
			wantDelivered(5)
			recreate(t, b, p.Topic, 1)
			sequence(t, producer, p.Topic, "alice", "new", 7)
			sink.waitGap(t)
			sink.sorted(t, 12)
			c.Delivered(p, old, 6)
			if err := c.delivered.flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			c.Delivered(p, topicID(t, c, p.Topic), 2)
			c.delivered.mu.Lock()
			if got := c.delivered.dirty[p]; got.next != 2 {
				t.Errorf("the position %d waits to be committed, want 2 of the new topic", got.next)
			}
			c.delivered.mu.Unlock()
		})
	}
}

// TestDecodedRecordIsTheSameWitness makes brokers answer as if a topic had been deleted. Herald has decoded the value of
// its last record, to find the user, and must recognize the record when it fetches the record again.
func TestDecodedRecordIsTheSameWitness(t *testing.T) {
	t.Parallel()
	for kind, versions := range kinds() {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			b, c, sink, producer := startOn(t, []kfake.Opt{versions, kfake.SeedTopics(1, "t")}, nil, "t,user=json:/to,format=confluent-json")
			ready(t, c)
			write := func(n int) {
				produce(t, producer, "t", "", fmt.Sprintf("\x00\x00\x00\x00\x01"+`{"to":"alice","n":%d}`, n))
			}
			want := []string{`alice {"to":"alice","n":1}`}
			write(1)
			sink.wantLines(t, want)
			end := unknown(b, kmsg.Fetch)
			time.Sleep(time.Second)
			if err := end(); err != nil {
				t.Fatal(err)
			}
			write(2)
			sink.wantLines(t, append(want, `alice {"to":"alice","n":2}`))
		})
	}
}
