package consumer

import (
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestStalledPartitionsAreReportedAndReadAgain checks that the consumer reports partitions that do not move
// although they have records: the broker answers each fetch without an error and without a partition. One
// of the partitions belongs to a shared topic, the other to a user's own topic.
func TestStalledPartitionsAreReportedAndReadAgain(t *testing.T) {
	t.Parallel()
	broker := newBroker(t, kfake.SeedTopics(1, "t", "n.alice"))
	sink := newLedger()
	c := configured(t, broker.ListenAddrs(), sink, "t", "n.{user}")
	log := hear(t, c)
	run(t, c)
	finishes(t, "Join", joining(t, c, "alice"))
	write := partitioned(t, broker)
	write("t", 0, "alice", "a")
	write("n.alice", 0, "", "a")
	sink.wantLines(t, []string{"alice a", "alice a"})
	var stop atomic.Bool
	broker.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		if stop.Load() {
			return nil, nil, false
		}
		broker.KeepControl()
		time.Sleep(10 * time.Millisecond)
		return req.ResponseKind(), nil, true
	})
	write("t", 0, "alice", "b")
	write("n.alice", 0, "", "b")
	waitFor(t, "both partitions are reported as stalled", func() bool { return testutil.ToFloat64(c.metrics.stalled) == 2 })
	log.wait(t, "ERROR partitions do not move; reading them again broker=0 partitions=2 topic=… partition=0 offset=1 end=2")
	stop.Store(true)
	sink.wantLines(t, []string{"alice a", "alice a", "alice b", "alice b"})
	waitFor(t, "no partition is reported as stalled", func() bool { return testutil.ToFloat64(c.metrics.stalled) == 0 })
}

// slowSink is a Sink that takes its time for the records of a partition.
type slowSink struct {
	*ledger
	slow  Partition
	each  func()    // called after each delivery of the partition
	other time.Time // when a record of another partition arrived last
}

func (s *slowSink) Deliver(p Partition, records []Record, next int64) {
	switch {
	case len(records) == 0:
	case p == s.slow:
		time.Sleep(200 * time.Millisecond)
		s.each()
	default:
		s.other = time.Now()
	}
	s.ledger.Deliver(p, records, next)
}

// TestPartitionThatWaitsForItsTurnIsNoStall has one partition wait for longer than a stall takes while the answers are
// full of another partition's backlog. The in-process broker begins with the partitions that a request names. These are
// the partitions that have moved.
func TestPartitionThatWaitsForItsTurnIsNoStall(t *testing.T) {
	t.Parallel()
	broker := newBroker(t, kfake.SeedTopics(2, "t"))
	write := partitioned(t, broker)
	const records = 40
	value := strings.Repeat("x", 100)
	for range records {
		write("t", 0, "alice", value)
	}
	var delivered int
	var written time.Time
	sink := &slowSink{ledger: newLedger(), slow: Partition{Topic: "t", ID: 0}}
	sink.each = func() {
		if delivered++; delivered == 3 { // the session has both partitions, and its requests no longer name the other one
			write("t", 1, "alice", "waits")
			written = time.Now()
		}
	}
	c := configured(t, broker.ListenAddrs(), sink, "t")
	c.reader.options.maxBytes = int32(len(value)) // an answer holds one batch
	c.reader.stallAfter = 2 * time.Second
	c.topics.states["t"].settleLocked(true) // as if the topic had been missing before, so that the consumer reads it from its start
	log := hear(t, c)
	run(t, c)
	lines := slices.Repeat([]string{"alice " + value}, records)
	sink.wantLines(t, append([]string{"alice waits"}, lines...))
	if took := sink.other.Sub(written); took < 2*c.reader.stallAfter {
		t.Errorf("the partition waited for %v, want %v or more", took, 2*c.reader.stallAfter)
	}
	if n := log.count("ERROR partitions do not move…"); n > 0 {
		t.Errorf("%d stalls reported, want none", n)
	}
}

// TestMayBeWaiting checks which answers say that a partition without records waits for its turn.
func TestMayBeWaiting(t *testing.T) {
	const limit = 8 << 20
	answer := func(size int, throttle int32) func(*liveReader, *shard) {
		return func(r *liveReader, s *shard) {
			r.countAnswer(s, size, &kmsg.FetchResponse{ThrottleMillis: throttle})
		}
	}
	full, small, empty, delayed := answer(limit, 0), answer(1000, 0), answer(0, 0), answer(0, 500)
	type list = []func(*liveReader, *shard)
	for name, test := range map[string]struct {
		answers list
		want    bool
	}{
		"no answer":                         {nil, false},
		"one empty answer":                  {list{empty}, true}, // it may have been under way
		"empty answers":                     {list{empty, empty}, false},
		"small answers":                     {list{small, small}, false},
		"empty answers of a quota":          {list{delayed, delayed}, true},
		"full answers of a quota":           {list{answer(limit, 500), answer(limit, 500)}, true}, // Kafka before 2.0
		"a full answer":                     {list{full}, true},
		"an answer with one turn":           {list{answer(fetchPartBytes, 0)}, true},
		"answers that certainly had room":   {slices.Repeat(list{answer(bulkBytes-1, 0)}, 2), false},
		"answers that may have had room":    {slices.Repeat(list{answer(bulkBytes, 0)}, 2), true},
		"small answers after a full one":    {list{full, small, small}, false},
		"a full answer after small ones":    {list{small, small, full}, false},
		"a full answer after empty ones":    {list{empty, empty, full}, false},
		"full answers with four turns each": {slices.Repeat(list{full}, 4), true},
		"more turns":                        {slices.Repeat(list{full}, 5), false},
	} {
		s := newShard(shardKey{})
		s.partitions = map[topicIDPartition]*livePartition{{id: 0}: nil, {id: 1}: nil}
		p := &livePartition{shard: s}
		r := &liveReader{options: fetchOptions{maxBytes: limit}}
		for _, a := range (list{full, small, empty}) { // before the suspicion
			a(r, s)
		}
		since := r.turnsOf(p)
		for _, a := range test.answers {
			a(r, s)
		}
		if got := r.turnsOf(p).mayBeWaiting(since); got != test.want {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
		if p.shard = nil; r.turnsOf(p).mayBeWaiting(since) || r.turnsOf(p).mayBeWaiting(turnCount{}) {
			t.Errorf("%s: a partition in no shard may be waiting", name)
		}
	}
}

// TestSuspectsAreJudged checks which suspects are read again, and which count as stalled.
func TestSuspectsAreJudged(t *testing.T) {
	one, two := new(shard), new(shard)
	was := turnCount{shard: one, partitions: 2, answers: 5, room: 3}
	full, small := turnCount{one, 2, 6, 3, 1000}, turnCount{one, 2, 7, 5, 1000}
	moved := turnCount{two, 2, 100, 100, 1000}
	for name, test := range map[string]struct {
		suspect      suspect
		at           turnCount
		awaitsSchema bool
		want         suspect
		again        bool
	}{
		"it waits":                          {suspect{since: was}, full, false, suspect{since: was}, false},
		"answers had room":                  {suspect{since: was}, small, false, suspect{since: small, stalled: true}, true},
		"no answer":                         {suspect{since: was}, was, false, suspect{since: was, stalled: true}, true},
		"in no shard":                       {suspect{since: was}, turnCount{}, false, suspect{stalled: true}, true},
		"in another shard":                  {suspect{since: was}, moved, false, suspect{since: moved}, false},
		"it was reported and waits":         {suspect{since: was, stalled: true}, full, false, suspect{since: was, stalled: true}, false},
		"it was reported, in another shard": {suspect{since: was, stalled: true}, moved, false, suspect{since: moved, stalled: true}, false},
		"it waits for a schema":             {suspect{since: was, stalled: true}, small, true, suspect{since: small}, false},
	} {
		test.suspect.offset, test.want.offset = 7, 7
		if got, again := test.suspect.judge(test.at, test.awaitsSchema); got != test.want || again != test.again {
			t.Errorf("%s: %+v, again %v, want %+v, again %v", name, got, again, test.want, test.again)
		}
	}
}

// TestSuspectedPartitionOfASilentLeaderStaysSuspected checks that a partition suspected of a stall stays
// suspected while its leader does not answer, unless the partition has moved.
func TestSuspectedPartitionOfASilentLeaderStaysSuspected(t *testing.T) {
	c := configured(t, []string{"127.0.0.1:1"}, newLedger(), "t")
	t.Cleanup(c.cluster.Close)
	c.topics.states["t"].leaders = []int32{0, 0, 0}
	stuck, moved, other := &livePartition{Partition: Partition{Topic: "t", ID: 0}, next: 5}, &livePartition{Partition: Partition{Topic: "t", ID: 1}, next: 6}, &livePartition{Partition: Partition{Topic: "t", ID: 2}}
	for _, f := range []*livePartition{stuck, moved, other} {
		c.reader.addPartition(f)
	}
	still := c.reader.checkStalls(t.Context(), map[*livePartition]suspect{stuck: {offset: 5}, moved: {offset: 5}})
	if len(still) != 1 || still[stuck].offset != 5 {
		t.Errorf("suspects %v, want only the partition that has not moved", still)
	}
}
