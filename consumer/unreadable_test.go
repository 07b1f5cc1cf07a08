package consumer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"herald/consumer/batch"
	"herald/consumer/batch/batchtest"
)

// forged answers fetches in place of a broker, with batches that no producer can write.
type forged struct {
	hold func(partition int32, offset int64) []byte // returns the batches for a fetch from the offset

	mu    sync.Mutex
	asked [2][]int64 // the offsets of the fetches of partition 0: live reading, replays
}

func (f *forged) answer(req *kmsg.FetchRequest) *kmsg.FetchResponse {
	res := req.ResponseKind().(*kmsg.FetchResponse) // an answer without a session: each fetch names all partitions
	for _, topic := range req.Topics {
		answered := kmsg.FetchResponseTopic{TopicID: topic.TopicID}
		for _, asked := range topic.Partitions {
			part := kmsg.NewFetchResponseTopicPartition()
			part.Partition = asked.Partition
			part.RecordBatches = f.hold(asked.Partition, asked.FetchOffset)
			part.HighWatermark, part.LastStableOffset = 1<<40, 1<<40
			answered.Partitions = append(answered.Partitions, part)
			if asked.Partition != 0 {
				continue
			}
			kind := 0
			if req.SessionEpoch == -1 {
				kind = 1
			}
			f.mu.Lock()
			f.asked[kind] = append(f.asked[kind], asked.FetchOffset)
			f.mu.Unlock()
		}
		res.Topics = append(res.Topics, answered)
	}
	return res
}

// fetches returns how often live reading and replays fetched partition 0 from each offset below before.
func (f *forged) fetches(before int64) (live, replays map[int64]int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	live, replays = make(map[int64]int), make(map[int64]int)
	for kind, count := range []map[int64]int{live, replays} {
		for _, offset := range f.asked[kind] {
			if offset < before {
				count[offset]++
			}
		}
	}
	return live, replays
}

// replace makes f answer the broker's fetches.
func (f *forged) replace(broker *kfake.Cluster) {
	broker.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		broker.KeepControl()
		time.Sleep(time.Millisecond) // a forged answer does not wait for new records
		return f.answer(req.(*kmsg.FetchRequest)), nil, true
	})
}

// readForged runs a consumer of the topic t, which has two partitions, on a forged broker.
func readForged(t *testing.T, hold func(partition int32, offset int64) []byte) (*forged, *Consumer, *ledger, *said) {
	t.Helper()
	broker := newBroker(t, kfake.SeedTopics(2, "t"))
	f := &forged{hold: hold}
	f.replace(broker)
	sink := newLedger()
	c := configured(t, broker.ListenAddrs(), sink, "t")
	log := hear(t, c)
	run(t, c)
	ready(t, c)
	return f, c, sink, log
}

// from returns the log from the set that holds the offset to the end, as a broker does.
func from(log []byte, offset int64) []byte {
	for len(log) > 0 {
		last := int64(binary.BigEndian.Uint64(log))
		if log[16] == 2 {
			last += int64(binary.BigEndian.Uint32(log[23:]))
		}
		if last >= offset {
			break
		}
		log = log[12+binary.BigEndian.Uint32(log[8:]):]
	}
	return log
}

// TestCorruptBatchIsLeftOut checks a batch that fails its checksum. Live reading and replays fetch the batch
// readTries times, report a gap and continue after it. Meanwhile the records of another partition arrive.
func TestCorruptBatchIsLeftOut(t *testing.T) {
	t.Parallel()
	corrupt := batchtest.Simple(0, "corrupt")
	corrupt[len(corrupt)-1] ^= 1
	log := slices.Concat(corrupt, batchtest.Simple(1, "after it"))
	var tried []int // the offset of the other partition at each fetch of the corrupt batch
	var asked sync.Mutex
	var seen int64
	f, c, sink, heard := readForged(t, func(partition int32, offset int64) []byte {
		asked.Lock()
		defer asked.Unlock()
		if partition == 1 {
			seen = offset
			return batchtest.Simple(offset, "other")
		}
		if offset == 0 {
			tried = append(tried, int(seen))
		}
		return from(log, offset)
	})
	if diff := cmp.Diff(Gap{From: 0, To: 1, Reason: GapUnreadable}, sink.waitGap(t)); diff != "" {
		t.Error(diff)
	}
	if live, _ := f.fetches(1); live[0] != readTries {
		t.Errorf("the corrupt batch was fetched %d times, want %d", live[0], readTries)
	}
	asked.Lock()
	if first, last := tried[0], tried[len(tried)-1]; last <= first {
		t.Errorf("the other partition was at %d at the first try and at %d at the last try, want progress", first, last)
	}
	asked.Unlock()
	waitFor(t, "the record after the corrupt batch arrives", func() bool { return sink.has(" after it") })
	sink.mu.Lock()
	if len(sink.gaps) != 1 || slices.ContainsFunc(sink.lines, func(line string) bool { return line != " after it" && line != " other" }) {
		t.Errorf("gaps %+v and records %.500q, want one gap and no other records", sink.gaps, sink.lines)
	}
	sink.mu.Unlock()
	if n := testutil.ToFloat64(c.metrics.errors.WithLabelValues("unreadable")); n != readTries {
		t.Errorf("%v unreadable answers are counted, want %d", n, readTries)
	}
	heard.wantErrors(t, 1, "… topic=t partition=0 offset=0 next=1 …")

	_, err := replayOne(t.Context(), c, Partition{Topic: "t", ID: 0}, topicID(t, c, "t"), "", 0, 2, func(*Record) bool { return true })
	bad, ok := errors.AsType[*UnreadableError](err)
	if !ok || bad.Offset != 0 || bad.Next != 1 || !errors.Is(err, batch.ErrCorrupt) {
		t.Errorf("the replay ends with %v, want an UnreadableError from 0 to 1: %v", err, batch.ErrCorrupt)
	}
	if _, replays := f.fetches(1); replays[0] != readTries {
		t.Errorf("a replay fetched the corrupt batch %d times, want %d", replays[0], readTries)
	}
}

// wantErrors checks that there are n lines of level ERROR and that all of them match the pattern.
func (s *said) wantErrors(t *testing.T, n int, pattern string) {
	t.Helper()
	if all, such := s.count("ERROR …"), s.count("ERROR "+pattern); all != n || such != n {
		t.Errorf("%d lines of level ERROR, %d of them match %q, want %d:\n%.2000s", all, such, pattern, n, strings.Join(s.all(), "\n"))
	}
}

// has reports whether the ledger has the line.
func (l *ledger) has(line string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Contains(l.lines, line)
}

// TestOldMessageSetsAreLeftOutTogether checks a topic that an old version of Kafka wrote, with a set for each
// message. One gap covers all sets, and they are fetched once: another fetch returns the same sets, and one
// answer may hold a hundred thousand of them.
func TestOldMessageSetsAreLeftOutTogether(t *testing.T) {
	t.Parallel()
	const sets = 10_000
	var log bytes.Buffer
	log.Write(batchtest.Simple(0, "before"))
	for i := range int64(sets) {
		log.Write(batchtest.Old(int8(i%2), 1+i, "old"))
	}
	log.Write(batchtest.Simple(sets+1, "later"))
	f, c, sink, heard := readForged(t, func(partition int32, offset int64) []byte {
		if partition != 0 {
			return nil
		}
		return from(log.Bytes(), offset)
	})
	gap := Gap{From: 1, To: sets + 1, Reason: GapUnreadable}
	want := []string{" before", " later"}
	if diff := cmp.Diff(want, sink.sorted(t, 2)); diff != "" {
		t.Error(diff)
	}
	sink.mu.Lock()
	if diff := cmp.Diff([]Gap{gap}, sink.gaps); diff != "" {
		t.Errorf("gaps (-want +got):\n%.1000s", diff)
	}
	sink.mu.Unlock()
	if live, _ := f.fetches(sets + 2); live[0] != 1 || len(live) != 1 {
		t.Errorf("live fetches by offset: %v, want one fetch from offset 0", live)
	}
	place := "… topic=t partition=0 offset=1 next=10001 …"
	heard.wantErrors(t, 1, place)
	if n := testutil.ToFloat64(c.metrics.errors.WithLabelValues("unreadable")); n != 1 {
		t.Errorf("%v unreadable answers are counted, want 1", n)
	}

	got, gaps := replayWithGaps(t, c, sets+2)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("replay (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]Gap{gap}, gaps); diff != "" {
		t.Errorf("gaps of a replay (-want +got):\n%.1000s", diff)
	}
	if _, replays := f.fetches(sets + 2); replays[0] != 1 || len(replays) != 1 {
		t.Errorf("fetches of the replay by offset: %v, want one fetch from offset 0", replays)
	}
	heard.wantErrors(t, 2, place) // the replay logs a line too
}

// replayWithGaps replays the offsets of partition 0 before end. It returns the lines of the records, and the
// ranges of old message sets.
func replayWithGaps(t *testing.T, c *Consumer, end int64) (got []string, gaps []Gap) {
	t.Helper()
	for next := int64(0); next < end; {
		var err error
		next, err = replayOne(t.Context(), c, Partition{Topic: "t", ID: 0}, topicID(t, c, "t"), "", next, end, func(r *Record) bool {
			got = append(got, line(r))
			return true
		})
		if err == nil {
			continue
		}
		bad, ok := errors.AsType[*UnreadableError](err)
		if !ok || !errors.Is(err, batch.ErrOldMessageFormat) {
			t.Fatalf("the replay ends with %v, want an UnreadableError: %v", err, batch.ErrOldMessageFormat)
		}
		gaps = append(gaps, Gap{bad.Offset, bad.Next, GapUnreadable})
		next = bad.Next
	}
	return got, gaps
}
