package consumer

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"herald/consumer/batch/batchtest"
)

// awaitLookBack waits until live reading of the partition has read the records of its look-back.
func awaitLookBack(t *testing.T, c *Consumer, p Partition) {
	t.Helper()
	waitFor(t, "live reading has read the records of the look-back", func() bool { return !c.reader.livePartition(p).looksBack() })
}

// TestTailHoldsRecordsWrittenBeforeTheStart checks a consumer that starts at the end of a log. The sink gets no
// record written before the start, and a replay of these records reads nothing from Kafka.
func TestTailHoldsRecordsWrittenBeforeTheStart(t *testing.T) {
	t.Parallel()
	const records, users = 1000, 10
	broker := newBroker(t, kfake.SeedTopics(1, "t"))
	fill(t, broker.ListenAddrs()[0], 1, records, users, 0)
	c, sink, producer := startAt(t, broker, "t")
	ready(t, c)
	p := Partition{Topic: "t", ID: 0}
	awaitLookBack(t, c, p)
	want := sequence(t, producer, "t", "3", "live", 3)
	sink.wantLines(t, want)
	got := 0
	next, err := replayOne(t.Context(), c, p, topicID(t, c, "t"), "3", 0, records+3, func(r *Record) bool {
		if got < records/users && string(r.Value) != fmt.Sprint(got) || string(r.User) != "3" {
			t.Errorf("record %d is %s of %s", got, r.Value, r.User)
		}
		got++
		return true
	})
	if next != records+3 || got != records/users+3 || err != nil {
		t.Errorf("the replay ended at %d with %d records and error %v, want %d records", next, got, err, records/users+3)
	}
	if read := testutil.ToFloat64(c.metrics.replayBytes); read != 0 {
		t.Errorf("the replay read %v bytes from Kafka, want none", read)
	}
}

// TestTailOfALogShorterThanTheLookBack checks the start of a consumer whose look-back begins at records that Kafka
// has deleted. The consumer reports no gap, because the sink was not to get these records.
func TestTailOfALogShorterThanTheLookBack(t *testing.T) {
	t.Parallel()
	broker := newBroker(t, kfake.SeedTopics(1, "t"))
	fill(t, broker.ListenAddrs()[0], 1, 100, 1, 0)
	client, err := kgo.NewClient(kgo.SeedBrokers(broker.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	var before kadm.Offsets
	before.Add(kadm.Offset{Topic: "t", At: 90})
	if answer, err := kadm.NewClient(client).DeleteRecords(t.Context(), before); err != nil || answer.Error() != nil {
		t.Fatal(err, answer.Error())
	}
	c, sink, producer := startAt(t, broker, "t")
	ready(t, c)
	p := Partition{Topic: "t", ID: 0}
	awaitLookBack(t, c, p)
	sink.wantLines(t, sequence(t, producer, "t", "0", "live", 3))
	var got []int64
	next, err := replayOne(t.Context(), c, p, topicID(t, c, "t"), "0", 95, 103, func(r *Record) bool {
		got = append(got, r.Offset)
		return true
	})
	if diff := cmp.Diff([]int64{95, 96, 97, 98, 99, 100, 101, 102}, got); diff != "" || next != 103 || err != nil {
		t.Errorf("the replay ended at %d with %v; offsets (-want +got):\n%s", next, err, diff)
	}
	if len(sink.gaps) > 0 || testutil.ToFloat64(c.metrics.replayBytes) != 0 || testutil.ToFloat64(c.metrics.errors.WithLabelValues(errorOutOfRange)) != 0 {
		t.Errorf("gaps %v, %v bytes read from Kafka for replays, %v errors, want none", sink.gaps,
			testutil.ToFloat64(c.metrics.replayBytes), testutil.ToFloat64(c.metrics.errors.WithLabelValues(errorOutOfRange)))
	}
}

// TestLookBackThatTakesLong checks a consumer to which Kafka returns a single record every 2 ms. The consumer breaks
// off the look-back, because live records wait for it.
func TestLookBackThatTakesLong(t *testing.T) {
	t.Parallel()
	const records = 1000
	broker := newBroker(t, kfake.SeedTopics(1, "t"))
	fill(t, broker.ListenAddrs()[0], 1, records, 1, 0)
	f := &forged{hold: func(_ int32, offset int64) []byte {
		time.Sleep(2 * time.Millisecond)
		if offset > records {
			return nil
		}
		return batchtest.Simple(offset, fmt.Sprint(offset))
	}}
	f.replace(broker)
	sink := newLedger()
	c := configured(t, broker.ListenAddrs(), sink, "t")
	c.reader.lookBackTime = 200 * time.Millisecond
	run(t, c)
	ready(t, c)
	sink.wantLines(t, []string{fmt.Sprint(" ", records)})
	if live, _ := f.fetches(records); len(live) > records/2 {
		t.Errorf("live reading fetched %d of %d records before its start", len(live), records)
	}
	p := Partition{Topic: "t", ID: 0}
	count := 0
	next, err := replayOne(t.Context(), c, p, topicID(t, c, "t"), "", records-20, records+1, func(*Record) bool {
		count++
		return true
	})
	if next != records+1 || count != 21 || err != nil {
		t.Errorf("a replay of 21 records ended at %d with %d records and error %v", next, count, err)
	}
}

// TestUnreadableRecordsBeforeTheStart checks a corrupt batch among the records of the look-back. The sink gets no
// gap, a replay reports the batch, and a replay of the records after it reads nothing from Kafka.
func TestUnreadableRecordsBeforeTheStart(t *testing.T) {
	t.Parallel()
	corrupt := batchtest.Simple(5, "corrupt")
	corrupt[len(corrupt)-1] ^= 1
	log := slices.Concat(batchtest.Simple(4, "before it"), corrupt, batchtest.Simple(6, "after it"), batchtest.Simple(7, "live"))
	broker := newBroker(t, kfake.SeedTopics(1, "t"))
	fill(t, broker.ListenAddrs()[0], 1, 7, 1, 0)
	(&forged{hold: func(_ int32, offset int64) []byte { return from(log, offset) }}).replace(broker)
	c, sink, _ := startAt(t, broker, "t")
	ready(t, c)
	p := Partition{Topic: "t", ID: 0}
	sink.wantLines(t, []string{" live"})
	if len(sink.gaps) > 0 {
		t.Errorf("the sink got the gaps %v, want none", sink.gaps)
	}
	next, err := replayOne(t.Context(), c, p, topicID(t, c, "t"), "", 4, 8, func(*Record) bool { return true })
	bad, ok := errors.AsType[*UnreadableError](err)
	if next != 5 || !ok || bad.Offset != 5 || bad.Next != 6 {
		t.Errorf("the replay ended at %d with %v, want an UnreadableError from 5 to 6", next, err)
	}
	read := testutil.ToFloat64(c.metrics.replayBytes)
	next, err = replayOne(t.Context(), c, p, topicID(t, c, "t"), "", 6, 8, func(*Record) bool { return true })
	if next != 8 || err != nil || testutil.ToFloat64(c.metrics.replayBytes) != read {
		t.Errorf("the replay after the corrupt batch ended at %d with %v, want 8 from the tail", next, err)
	}
}

// TestReplayJoinsKafkaAndTail checks a replay that begins before the tail. The older records come from Kafka, the
// others from the tail, and each record arrives once.
func TestReplayJoinsKafkaAndTail(t *testing.T) {
	t.Parallel()
	_, c, sink, producer := startOn(t, nil, []string{"t"}, "t")
	ready(t, c)
	p := Partition{Topic: "t", ID: 0}
	want := sequence(t, producer, "t", "alice", "older", 5)
	sink.wantLines(t, want)
	forgetTail(t, c, p)
	want = append(want, sequence(t, producer, "t", "alice", "newer", 5)...)
	sink.wantLines(t, sortedCopy(want))
	var got []string
	next, err := replayOne(t.Context(), c, p, topicID(t, c, "t"), "alice", 0, 10, func(r *Record) bool {
		got = append(got, line(r))
		return true
	})
	if diff := cmp.Diff(want, got); diff != "" || next != 10 || err != nil {
		t.Errorf("the replay ended at %d with %v; records (-want +got):\n%s", next, err, diff)
	}
	if tail, passes := testutil.ToFloat64(c.metrics.tailReplays), testutil.ToFloat64(c.metrics.passes); tail != 1 || passes != 1 {
		t.Errorf("%v parts came from the tail and %v from passes, want one of each", tail, passes)
	}
}
