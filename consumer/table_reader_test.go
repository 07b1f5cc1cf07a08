package consumer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"herald/consumer/batch"
)

// keyTable is a [Table] of the latest value of each key.
type keyTable struct {
	mu       sync.Mutex
	topics   map[[16]byte]map[string]string
	applied  int   // calls of Applied
	lost     []Gap // the gap of each call of Lose
	complete []int // the number of keys at each call of Complete
	replaced []int // the number of topics that each call of Complete named
}

func (k *keyTable) Apply(_ Partition, topicID [16]byte, rec *Record) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.topics[topicID] == nil {
		k.topics[topicID] = make(map[string]string)
	}
	k.topics[topicID][string(rec.Key)] = string(rec.Value)
}

func (k *keyTable) Applied() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.applied++
}

func (k *keyTable) Lose(_ Partition, gap Gap) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.lost = append(k.lost, gap)
}

func (k *keyTable) Complete(replaced [][16]byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.complete, k.replaced = append(k.complete, len(k.allLocked())), append(k.replaced, len(replaced))
	for _, id := range replaced {
		delete(k.topics, id)
	}
}

func (k *keyTable) allLocked() map[string]string {
	all := make(map[string]string)
	for _, topic := range k.topics {
		maps.Copy(all, topic)
	}
	return all
}

// wait waits until the table holds exactly the wanted keys and values.
func (k *keyTable) wait(t *testing.T, want map[string]string) {
	t.Helper()
	waitFor(t, fmt.Sprint("the table holds ", want), func() bool {
		k.mu.Lock()
		defer k.mu.Unlock()
		return maps.Equal(k.allLocked(), want)
	})
}

// runTable reads the topic "table" into a table until the test ends.
func runTable(t *testing.T, broker *kfake.Cluster) (*TableReader, *keyTable) {
	t.Helper()
	table := &keyTable{topics: make(map[[16]byte]map[string]string)}
	cfg := Config{Brokers: broker.ListenAddrs(), Group: "test", Replica: "one", Logger: slog.New(slog.NewTextHandler(t.Output(), nil))}
	r, err := NewTableReader(cfg, "table", table)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return r, table
}

// TestTableIsReadWholeBeforeItIsReady checks that a reader is ready only after it has applied all records of
// its topic, although the broker refuses fetches at first, and that it applies later records too.
func TestTableIsReadWholeBeforeItIsReady(t *testing.T) {
	t.Parallel()
	broker := newBroker(t, kfake.SeedTopics(2, "table"))
	write := partitioned(t, broker)
	want := make(map[string]string)
	for i := range 100 {
		key := fmt.Sprint("key", i)
		write("table", int32(i%2), key, "old")
		want[key] = "old"
	}
	fault := broker.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Err: kerr.KafkaStorageError, Count: -1})
	r, table := runTable(t, broker)
	waitFor(t, "the topic is being read", func() bool { return errors.Is(r.Ready(), ErrUnread) && fault.Hits() > 2 })
	table.wait(t, map[string]string{})
	fault.Remove()
	waitFor(t, "the reader is ready", func() bool { return r.Ready() == nil })
	table.mu.Lock()
	if diff := cmp.Diff([]int{100}, table.complete); diff != "" {
		t.Errorf("keys when the table is complete (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want, table.allLocked()); diff != "" {
		t.Errorf("the table when the reader is ready (-want +got):\n%s", diff)
	}
	applied := table.applied
	table.mu.Unlock()
	write("table", 0, "key0", "new")
	want["key0"] = "new"
	table.wait(t, want)
	waitFor(t, "the reader calls Applied for the new record", func() bool {
		table.mu.Lock()
		defer table.mu.Unlock()
		return table.applied > applied
	})
}

// TestTableWaitsForItsTopic checks that Ready of a reader reports a missing topic, and that the reader reads the
// topic from its start once the topic is created.
func TestTableWaitsForItsTopic(t *testing.T) {
	t.Parallel()
	broker := newBroker(t)
	r, table := runTable(t, broker)
	waitFor(t, "the reader misses the topic", func() bool { return errors.Is(r.Ready(), ErrNoTopic) })
	if err := broker.CreateTopic("table", 1, nil); err != nil {
		t.Fatal(err)
	}
	partitioned(t, broker)("table", 0, "a", "1")
	waitFor(t, "the reader is ready", func() bool { return r.Ready() == nil })
	table.wait(t, map[string]string{"a": "1"})
}

// TestTableOfATopicCreatedAgainHoldsTheNewRecordsOnly checks a topic that is deleted and created again. The
// table keeps the old records until the reader has read the new topic.
func TestTableOfATopicCreatedAgainHoldsTheNewRecordsOnly(t *testing.T) {
	t.Parallel()
	broker := newBroker(t, kfake.SeedTopics(1, "table"))
	partitioned(t, broker)("table", 0, "a", "1")
	r, table := runTable(t, broker)
	waitFor(t, "the reader is ready", func() bool { return r.Ready() == nil })
	if err := broker.DeleteTopic("table"); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the reader misses the topic", func() bool { return errors.Is(r.Ready(), ErrNoTopic) })
	table.wait(t, map[string]string{"a": "1"})
	if err := broker.CreateTopic("table", 1, nil); err != nil {
		t.Fatal(err)
	}
	partitioned(t, broker)("table", 0, "b", "2")
	table.wait(t, map[string]string{"b": "2"})
	waitFor(t, "the reader is ready again", func() bool { return r.Ready() == nil })
	table.mu.Lock()
	defer table.mu.Unlock()
	if !slices.Equal(table.replaced, []int{0, 1}) || len(table.lost) > 0 {
		t.Errorf("calls of Complete named %v topics, want 0 and 1; lost %v, want nothing", table.replaced, table.lost)
	}
}

// TestTableLosesUnreadableRecordsOnly checks a topic with a batch that fails its checksum and with deleted
// records: Lose gets the offsets of the lost records, and the table holds all other records.
func TestTableLosesUnreadableRecordsOnly(t *testing.T) {
	table := &keyTable{topics: make(map[[16]byte]map[string]string)}
	s := newTableSink(table)
	p, id := Partition{Topic: "table", ID: 0}, [16]byte{1}
	left := []int64{2, 5, 9} // where each replay ends: before unreadable records, before deleted records, at the end
	s.replay = func(_ context.Context, _ string, ranges []Range, fn func(*Range, *Record) bool) {
		r := &ranges[0]
		for ; r.Next < left[0]; r.Next++ {
			fn(r, &Record{Record: batch.Record{Offset: r.Next, Key: fmt.Append(nil, r.Next), Value: []byte("x")}})
		}
		switch r.Err = nil; len(left) {
		case 3:
			r.Err = &UnreadableError{Position: Position{Partition: p, Offset: 2}, Next: 4, err: errors.New("checksum")}
		case 2:
			r.Err = &OutOfRangeError{Position: Position{Partition: p, Offset: 5}, Start: 7, End: 9}
		}
		left = left[1:]
	}
	s.start(t.Context())
	s.Begin(p, id, 9)
	s.wg.Wait()
	s.Deliver(p, []Record{{Record: batch.Record{Offset: 9, Key: []byte("9"), Value: []byte("x")}}}, 10)
	s.Gap(p, Gap{From: 10, To: 12, Reason: GapRetention})
	if diff := cmp.Diff([]Gap{{From: 2, To: 4, Reason: GapUnreadable}, {From: 10, To: 12, Reason: GapRetention}}, table.lost); diff != "" {
		t.Errorf("lost offsets (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"0", "1", "4", "7", "8", "9"}, slices.Sorted(maps.Keys(table.allLocked()))); diff != "" {
		t.Errorf("applied offsets (-want +got):\n%s", diff)
	}
	if !s.partitions[p].replayed || s.partitions[p].next != 12 {
		t.Errorf("the partition is %+v, want replayed: true and next: 12", *s.partitions[p])
	}
}

// TestPartitionOfATableIsReadWhenReplayAndLiveReadingReachItsEnd checks that a partition counts as read only in
// the last of the states that it goes through.
func TestPartitionOfATableIsReadWhenReplayAndLiveReadingReachItsEnd(t *testing.T) {
	p := Partition{Topic: "table", ID: 0}
	r := &TableReader{sink: newTableSink(nil)}
	for _, c := range []struct {
		name string
		part *tablePartition
		want error
	}{
		{"live reading has not begun", nil, ErrUnread},
		{"the replay has not ended", &tablePartition{next: 5, end: 5}, ErrUnread},
		{"live reading has not reached the end", &tablePartition{replayed: true, next: 4, end: 5}, ErrUnread},
		{"the replay has ended and live reading has reached the end", &tablePartition{replayed: true, next: 5, end: 5}, nil},
	} {
		r.sink.partitions[p] = c.part
		if err := r.checkPartition(t.Context(), p); !errors.Is(err, c.want) {
			t.Errorf("%s: the error is %v, want %v", c.name, err, c.want)
		}
	}
}
