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

// forged is a broker whose partitions hold what no producer can write.
type forged struct {
	hold func(partition int32, offset int64) []byte // what a fetch from there gets

	mu    sync.Mutex
	asked [2][]int64 // the offsets that partition 0 was fetched from, live and by replays
}

func (f *forged) answer(req *kmsg.FetchRequest) *kmsg.FetchResponse {
	res := req.ResponseKind().(*kmsg.FetchResponse) // without a session: each fetch names all
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

// fetches returns how often partition 0 was fetched from each offset before that one, live and by replays.
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

// readForged reads a topic t of such a broker, with two partitions.
func readForged(t *testing.T, hold func(partition int32, offset int64) []byte) (*forged, *Consumer, *ledger, *said) {
	t.Helper()
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, "t"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Close)
	f := &forged{hold: hold}
	broker.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		broker.KeepControl()
		time.Sleep(time.Millisecond) // it never waits for news
		return f.answer(req.(*kmsg.FetchRequest)), nil, true
	})
	sink := newLedger()
	c := configured(t, broker.ListenAddrs(), sink, "t")
	log := hear(t, c)
	run(t, c)
	ready(t, c)
	return f, c, sink, log
}

// from returns the sets of a log from the one that holds the offset on, as a broker does.
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

// TestCorruptBatchIsLeftOut wants a batch that fails its checksum tried again, then told and left out,
// and the records of another partition meanwhile.
func TestCorruptBatchIsLeftOut(t *testing.T) {
	t.Parallel()
	corrupt := batchtest.Simple(0, "corrupt")
	corrupt[len(corrupt)-1] ^= 1
	log := slices.Concat(corrupt, batchtest.Simple(1, "behind it"))
	var tried []int // how many records of the other partition there had been when it was tried
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
		t.Errorf("the other partition was at %d at the first try and at %d at the last one", first, last)
	}
	asked.Unlock()
	waitFor(t, "what is behind the corrupt batch comes", func() bool { return sink.has(" behind it") })
	sink.mu.Lock()
	if len(sink.gaps) != 1 || slices.ContainsFunc(sink.lines, func(line string) bool { return line != " behind it" && line != " other" }) {
		t.Errorf("gaps %+v and records %.500q", sink.gaps, sink.lines)
	}
	sink.mu.Unlock()
	if n := testutil.ToFloat64(c.metrics.errors.WithLabelValues("unreadable")); n != readTries {
		t.Errorf("%v unreadable answers are counted, want %d", n, readTries)
	}
	heard.wantErrors(t, 1, "… topic=t partition=0 offset=0 next=1 …")

	_, err := replayOne(t.Context(), c, Partition{Topic: "t", ID: 0}, topicID(t, c, "t"), "", 0, 2, func(*Record) bool { return true })
	bad, ok := errors.AsType[*UnreadableError](err)
	if !ok || bad.Offset != 0 || bad.Next != 1 || !errors.Is(err, batch.ErrCorrupt) {
		t.Errorf("Replay: %v, want an UnreadableError at 0 that goes on at 1: %v", err, batch.ErrCorrupt)
	}
	if _, replays := f.fetches(1); replays[0] != readTries {
		t.Errorf("a replay fetched the corrupt batch %d times, want %d", replays[0], readTries)
	}
}

// wantErrors wants so many lines of level ERROR, all as the pattern says.
func (s *said) wantErrors(t *testing.T, n int, pattern string) {
	t.Helper()
	if all, such := s.count("ERROR …"), s.count("ERROR "+pattern); all != n || such != n {
		t.Errorf("%d lines of level ERROR, %d of them as %q, want %d:\n%.2000s", all, such, pattern, n, strings.Join(s.all(), "\n"))
	}
}

// has says whether there is such a line.
func (l *ledger) has(line string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Contains(l.lines, line)
}

// TestOldMessageSetsAreLeftOutTogether reads a topic that an old version of Kafka has written, with a set
// for each message: they are no passing damage, and one answer may hold a hundred thousand.
func TestOldMessageSetsAreLeftOutTogether(t *testing.T) {
	t.Parallel()
	const sets = 10_000
	var log bytes.Buffer
	log.Write(batchtest.Simple(0, "before"))
	for i := range int64(sets) {
		log.Write(batchtest.Old(int8(i%2), 1+i, "old"))
	}
	log.Write(batchtest.Simple(sets+1, "behind"))
	f, c, sink, heard := readForged(t, func(partition int32, offset int64) []byte {
		if partition != 0 {
			return nil
		}
		return from(log.Bytes(), offset)
	})
	gap := Gap{From: 1, To: sets + 1, Reason: GapUnreadable}
	want := []string{" before", " behind"}
	if diff := cmp.Diff(want, sink.sorted(t, 2)); diff != "" {
		t.Error(diff)
	}
	sink.mu.Lock()
	if diff := cmp.Diff([]Gap{gap}, sink.gaps); diff != "" {
		t.Errorf("gaps (-want +got):\n%.1000s", diff)
	}
	sink.mu.Unlock()
	if live, _ := f.fetches(sets + 2); live[0] != 1 || len(live) != 1 {
		t.Errorf("offsets and how often they were fetched: %v, want 0 once", live)
	}
	place := "… topic=t partition=0 offset=1 next=10001 …"
	heard.wantErrors(t, 1, place)
	if n := testutil.ToFloat64(c.metrics.errors.WithLabelValues("unreadable")); n != 1 {
		t.Errorf("%v unreadable answers are counted, want 1", n)
	}

	var got []string
	var gaps []Gap
	for next := int64(0); next < sets+2; {
		var err error
		next, err = replayOne(t.Context(), c, Partition{Topic: "t", ID: 0}, topicID(t, c, "t"), "", next, sets+2, func(r *Record) bool {
			got = append(got, line(r))
			return true
		})
		if err == nil {
			continue
		}
		bad, ok := errors.AsType[*UnreadableError](err)
		if !ok || !errors.Is(err, batch.ErrOldMessageFormat) {
			t.Fatal(err)
		}
		gaps = append(gaps, Gap{bad.Offset, bad.Next, GapUnreadable})
		next = bad.Next
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("replay (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]Gap{gap}, gaps); diff != "" {
		t.Errorf("gaps of a replay (-want +got):\n%.1000s", diff)
	}
	if _, replays := f.fetches(sets + 2); replays[0] != 1 || len(replays) != 1 {
		t.Errorf("offsets and how often a replay fetched them: %v, want 0 once", replays)
	}
	heard.wantErrors(t, 2, place) // one of the replay too
}
