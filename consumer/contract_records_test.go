package consumer

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// TestContractRecordsOfAllRoutesArrive checks that records of a shared topic, a broadcast topic and a
// user's own topic arrive, also if the own topic is created after the user has joined.
func TestContractRecordsOfAllRoutesArrive(t *testing.T) {
	k := newContract(t)
	shared, all := k.topic(t, "shared", 3), k.topic(t, "all", 1)
	c, sink := k.read(t, "shared", "all,kind=broadcast", "own.{user}")
	topics, err := c.Join(t.Context(), "alice")
	if err != nil {
		t.Fatal(err)
	}
	own := k.run + "own.alice"
	var names []string
	for _, source := range topics {
		names = append(names, source.Topic)
	}
	if diff := cmp.Diff([]string{all, own, shared}, sortedCopy(names)); diff != "" {
		t.Errorf("topics (-want +got):\n%s", diff)
	}
	k.topic(t, "own.alice", 1)
	want := k.write(t, k.client, own, 0, "alice", "first ever")
	for p := range int32(3) {
		want = append(want, k.write(t, k.client, shared, p, "alice", fmt.Sprint("shared ", p))...)
	}
	k.write(t, k.client, all, 0, "alice", "for everyone")
	want = append(want, "* for everyone")
	sink.wantLines(t, sortedCopy(want))
	checkReplay(t, c, own, want[:1])
}

// TestContractBatchesOfAllCodecsArriveInOrder checks that records arrive in order, live and in a replay,
// from batches of several sizes and all codecs.
func TestContractBatchesOfAllCodecsArriveInOrder(t *testing.T) {
	k := newContract(t)
	topic := k.topic(t, "t", 1)
	c, sink := k.read(t, "t")
	var want []string
	for codec := range len(compressions) {
		client := k.connect(t, kgo.ProducerBatchCompression(compressions[codec]), kgo.ProducerLinger(100*time.Millisecond)) // a call makes one batch
		for _, size := range []int{1, 10, 1000, 1} {
			var values []string
			for i := range size {
				values = append(values, fmt.Sprintf("%d: %d of %d %s", codec, i, size, strings.Repeat("x", i)))
			}
			want = append(want, k.write(t, client, topic, 0, "alice", values...)...)
			k.write(t, client, topic, 0, "bob", "not hers")
		}
	}
	sink.sorted(t, len(want)+4*len(compressions))
	got := slices.DeleteFunc(slices.Clone(sink.lines), func(line string) bool { return line == "bob not hers" })
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("live (-want +got):\n%.2000s", diff)
	}
	checkReplay(t, c, topic, want)
}

// TestContractAbortedTransactionsAreLeftOut checks that records of aborted transactions do not arrive. Two
// transactions at a time write to one partition, with other records between theirs; none, one or both of
// them abort.
func TestContractAbortedTransactionsAreLeftOut(t *testing.T) {
	k := newContract(t)
	topic := k.topic(t, "t", 1)
	c, sink := k.read(t, "t")
	var clients []*kgo.Client
	for i := range 2 {
		clients = append(clients, k.connect(t, kgo.TransactionalID(fmt.Sprint(k.run, i))))
	}
	var want []string
	for round, commits := range [][]kgo.TransactionEndTry{{false, true}, {true, false}, {false, false}, {true, true}} {
		for _, client := range clients {
			if err := client.BeginTransaction(); err != nil {
				t.Fatal(err)
			}
		}
		for n := range 3 {
			for i, client := range clients {
				lines := k.write(t, client, topic, 0, "alice", fmt.Sprint(round, ": ", n, " of ", i))
				if commits[i] {
					want = append(want, lines...)
				}
			}
			want = append(want, k.write(t, k.client, topic, 0, "alice", fmt.Sprint(round, ": ", n, " of none"))...)
		}
		for i, client := range clients {
			if err := client.EndTransaction(t.Context(), commits[i]); err != nil {
				t.Fatal(err)
			}
		}
	}
	want = append(want, k.write(t, k.client, topic, 0, "alice", "last")...)
	sink.sorted(t, len(want))
	if diff := cmp.Diff(want, sink.lines); diff != "" {
		t.Errorf("live (-want +got):\n%s", diff)
	}
	checkReplay(t, c, topic, want)
}

// TestContractReplayOfDeletedRecordsFails checks that a replay of deleted records returns an error with the
// range that is left, and that a replay of this range returns its records.
func TestContractReplayOfDeletedRecordsFails(t *testing.T) {
	k := newContract(t)
	topic := k.topic(t, "t", 1)
	c, sink := k.read(t, "t")
	want := k.write(t, k.client, topic, 0, "alice", "0", "1", "2", "3")
	sink.wantLines(t, want)
	var before kadm.Offsets
	before.Add(kadm.Offset{Topic: topic, At: 3})
	if answer, err := k.admin.DeleteRecords(t.Context(), before); err != nil || answer.Error() != nil {
		t.Fatal(err, answer.Error())
	}
	p := Partition{Topic: topic, ID: 0}
	waitFor(t, "the tail has dropped the deleted records", func() bool { return c.reader.livePartition(p).tail.From() == 3 })
	_, err := replayOne(t.Context(), c, p, topicID(t, c, topic), "alice", 0, 4, func(*Record) bool { return true })
	gone, _ := errors.AsType[*OutOfRangeError](err)
	if diff := cmp.Diff(&OutOfRangeError{Position{p, 0}, 3, 4}, gone); diff != "" {
		t.Errorf("error of a replay of deleted records (-want +got):\n%s", diff)
	}
	checkReplay(t, c, topic, want[3:])
}

// scale is a Sink that counts the bytes of all topics except the topic near. It calls the function first
// when the first records arrive.
type scale struct {
	*ledger
	first  func()
	begun  sync.Once
	weight int // bytes of all topics except near
	before int // weight when the record of near arrived
	near   string
	came   chan struct{}
}

func (s *scale) Deliver(p Partition, records []Record, _ int64) {
	if len(records) == 0 {
		return
	}
	s.begun.Do(s.first)
	if p.Topic == s.near {
		s.before = s.weight
		close(s.came)
		return
	}
	for i := range records {
		s.weight += len(records[i].Value)
	}
}

// TestContractBacklogDoesNotDelayNewRecords checks that a new record of one partition does not wait until
// the backlog of other partitions is read. The backlog is many times as large as an answer of the broker.
func TestContractBacklogDoesNotDelayNewRecords(t *testing.T) {
	k := newContract(t)
	const records, size = 48, 1 << 20
	partitions := int32(3)
	if k.inProcess { // the in-process broker's answers always begin with the same partitions, although KIP-227 asks for turns
		partitions = 1
	}
	far, near := k.topic(t, "far", partitions), k.topic(t, "near", 1)
	client := k.connect(t, kgo.ProducerBatchMaxBytes(1<<20+1<<10), kgo.ProducerBatchCompression(kgo.NoCompression()))
	value := strings.Repeat("x", size-1<<10)
	for p := range partitions {
		for range records {
			k.write(t, client, far, p, "alice", value)
		}
	}
	sink := &scale{ledger: newLedger(), near: near, came: make(chan struct{})}
	c := configured(t, k.addresses, sink, "group="+k.run+"group", far, near)
	c.reader.stallAfter = time.Hour // the sink may stop the delivery for longer than a stall takes
	sink.first = func() {
		// The consumer may find the position of near after it has begun to read far.
		waitFor(t, "the partition without a backlog is read", func() bool {
			c.reader.mu.Lock()
			defer c.reader.mu.Unlock()
			p := c.reader.partitions[Partition{Topic: near}]
			return p != nil && p.shard != nil
		})
		k.write(t, k.client, near, 0, "alice", "in time")
	}
	c.topics.states[far].settleLocked(true) // as if the topic had been missing before, so that the consumer reads it from its start
	run(t, c)
	select {
	case <-sink.came:
	case <-time.After(time.Minute):
		t.Fatal("the record of the partition without a backlog did not arrive within a minute")
	}
	// One answer is being delivered, and a second answer is on its way. A partition that has just joined the fetch session
	// comes last (KIP-227). Kafka 2.7 moves it to the end of the line once more when an answer reports the end of its log
	// and has no room for its records. So each other partition may have two turns before it.
	if bound := 2*int(c.cfg.FetchMaxBytes) + 2*int(partitions)*fetchPartBytes; sink.before > bound {
		t.Errorf("%d bytes of other partitions arrived before the record, want at most %d of %d", sink.before, bound, int(partitions)*records*size)
	}
}

// TestContractSmallBatchesTakeLittleMemory checks that memory stays within a bound while the consumer reads
// many batches of one record. Each batch takes memory besides its bytes, which would add up.
func TestContractSmallBatchesTakeLittleMemory(t *testing.T) {
	k := newContractAlone(t)
	batches, most := 40_000, 64.0
	if !k.inProcess { // Kafka writes each batch to its disk
		batches, most = 10_000, 24
	}
	topic := k.topic(t, "t", 1)
	writer := k.connect(t, kgo.MaxBufferedRecords(1), kgo.ProducerBatchCompression(kgo.NoCompression())) // one record a batch: the client takes the next record when the last record is written
	value := []byte(strings.Repeat("x", 100))
	for range batches {
		writer.Produce(t.Context(), &kgo.Record{Topic: topic, Value: value}, func(_ *kgo.Record, err error) {
			if err != nil {
				t.Error(err)
			}
		})
	}
	if err := writer.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	sink := &countSink{enough: make(chan struct{})}
	sink.left.Store(int64(batches))
	c := configured(t, k.addresses, sink, "group="+k.run+"group", topic)
	c.topics.states[topic].settleLocked(true) // as if the topic had been missing before, so that the consumer reads it from its start
	heap := peakInUse(t)
	run(t, c)
	select {
	case <-sink.enough:
	case <-time.After(time.Minute):
		t.Fatalf("%d of %d records did not arrive within a minute", sink.left.Load(), batches)
	}
	peak := heap()
	t.Logf("%.1f MB for %.1f MB read", peak, testutil.ToFloat64(c.metrics.liveBytes)/1e6)
	if peak > most {
		t.Errorf("the heap grew to %.1f MB for %d batches of one record, want at most %.0f MB", peak, batches, most)
	}
}
