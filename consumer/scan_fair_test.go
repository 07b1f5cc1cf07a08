package consumer

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// replayAll replays the last records of each partition, as many as last says, and returns how many of them were
// the user's. records is the number of records of a partition. After an error it replays the rest, as a stream
// does.
func replayAll(ctx context.Context, tb testing.TB, c *Consumer, user string, partitions int, records, last int64) (got int) {
	tb.Helper()
	_, id, err := c.topics.leaderOf(Partition{Topic: "t", ID: 0})
	if err != nil {
		tb.Error(err)
		return 0
	}
	var ranges []Range
	for p := range partitions {
		ranges = append(ranges, Range{Partition: Partition{Topic: "t", ID: int32(p)}, TopicID: id, Next: records - last, To: records})
	}
	done := func(r Range) bool { return r.Next == records }
	for ctx.Err() == nil && len(ranges) > 0 {
		c.Replay(ctx, user, ranges, func(*Range, *Record) bool { got++; return true })
		ranges = slices.DeleteFunc(ranges, done)
	}
	for i := range ranges {
		tb.Errorf("user %s: the replay of %s ended at %d with %v", user, ranges[i].Partition, ranges[i].Next, ranges[i].Err)
	}
	return got
}

// holdReplays makes the broker hold a replay's fetch while held returns true for the fetch's offset.
func holdReplays(broker *kfake.Cluster, held func(offset int64) bool) {
	broker.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		broker.KeepControl()
		fetch := req.(*kmsg.FetchRequest)
		if fetch.SessionEpoch == -1 && held(fetch.Topics[0].Partitions[0].FetchOffset) {
			broker.SleepControl(func() {
				for held(fetch.Topics[0].Partitions[0].FetchOffset) {
					time.Sleep(time.Millisecond)
				}
			})
		}
		return nil, nil, false
	})
}

// shortBesideLong replays the last 100 records of four partitions to 1,000 users, in two waves. With withLong,
// another user replays the partitions from their start: its replay reaches half of the log between the waves,
// and the end after the waves. shortBesideLong returns how many chunks the waves read from Kafka.
func shortBesideLong(t *testing.T, withLong bool) int {
	t.Helper()
	const partitions, records, users = 4, longRange + 10_000, 1000
	var read [2]atomic.Int64 // chunks read, by rangeLength
	broker, c := filledConsumer(t, partitions, records, users, 60, func(c *Consumer) {
		c.scans.fetcher.cache = newChunkCache(2 << 20)
		c.scans.fetcher.fetched = func(z zone, _ *chunk) { read[z.length].Add(1) }
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var end atomic.Int64 // the broker holds fetches of the long replay from this offset on
	longDone := make(chan int, 1)
	if withLong {
		end.Store(1)
		holdReplays(broker, func(offset int64) bool { return offset >= end.Load() && offset < records-1000 })
		go func() { longDone <- replayAll(ctx, t, c, "7", partitions, records, records) }()
		waitFor(t, "the long replay has read a chunk of each partition", func() bool { return read[long].Load() == partitions })
	}
	wave := func() {
		var back sync.WaitGroup
		for user := range users {
			back.Go(func() {
				want := 0 // 100 users have one record each among the last 100 records of a partition
				if user >= users-100 {
					want = partitions
				}
				if got := replayAll(ctx, t, c, strconv.Itoa(user), partitions, records, 100); got != want {
					t.Errorf("user %d got %d records, want %d", user, got, want)
				}
			})
		}
		back.Wait()
		select {
		case <-longDone:
			t.Error("the long replay ended before the short replays")
		default:
		}
	}
	wave()
	if withLong {
		end.Store(records / 2)
		waitFor(t, "the long replay has read more than memory holds", func() bool { return read[long].Load() > 4*partitions })
	}
	wave()
	if withLong {
		end.Store(records)
		if got, want := <-longDone, partitions*records/users; got != want {
			t.Errorf("the long replay got %d records, want %d", got, want)
		}
		t.Logf("the long replay read %d chunks", read[long].Load())
	}
	return int(read[short].Load())
}

// TestLongReplayDoesNotDelayShortOnes checks short replays of many users while one user's long replay takes all
// slots for long replays and is held. The short replays end, and they read no more chunks than without the
// long replay, because the chunks that they share stay in memory.
func TestLongReplayDoesNotDelayShortOnes(t *testing.T) {
	alone, beside := shortBesideLong(t, false), shortBesideLong(t, true)
	t.Logf("the short replays read %d chunks without the long replay, %d with it", alone, beside)
	if alone != 4 || beside != alone {
		t.Errorf("the short replays read %d chunks without the long replay and %d with it, want one chunk of each of 4 partitions", alone, beside)
	}
}

// TestLongReplaysTakeTurns checks two long replays of different partitions with a single slot: the replays take
// turns after a few chunks.
func TestLongReplaysTakeTurns(t *testing.T) {
	const records, size, turn = 4000, 4 << 10, 2 // 16 MiB each
	var mu sync.Mutex
	var order []int32 // the partition of each chunk read
	var held atomic.Bool
	held.Store(true)
	broker, c := filledConsumer(t, 2, records, 1, size, func(c *Consumer) {
		c.scans.longRange, c.scans.turnChunks = 1000, turn
		c.scans.slots[long] = make(chan struct{}, 1)
		c.scans.fetcher.fetched = func(z zone, _ *chunk) {
			mu.Lock()
			defer mu.Unlock()
			order = append(order, z.ID)
		}
	})
	holdReplays(broker, func(int64) bool { return held.Load() })
	id := topicID(t, c, "t")
	var both sync.WaitGroup
	for p := range int32(2) {
		both.Go(func() {
			if next, err := replayOne(t.Context(), c, Partition{Topic: "t", ID: p}, id, "0", 0, records, func(*Record) bool { return true }); next != records || err != nil {
				t.Errorf("the replay of partition %d ended at %d with %v", p, next, err)
			}
		})
	}
	waitFor(t, "both replays wait", func() bool {
		return c.scans.waiters.zoneCount() == 2
	})
	held.Store(false)
	both.Wait()
	second := slices.IndexFunc(order, func(p int32) bool { return p != order[0] }) // the second replay comes to the slot a little later
	if second < 0 || len(order)-second < 8*turn {
		t.Fatalf("too few chunks were read to see turns: %v", order)
	}
	for i := second; i < len(order)-4*turn; i++ { // in the last turns, one replay may have ended
		if same := order[i : i+turn+1]; same[0] == same[1] && same[1] == same[2] {
			t.Fatalf("more than %d chunks in a row are of one partition: %v", turn, order)
		}
	}
}

// TestReplayBehindAPassIsServedNext checks a replay that begins before the position of the current pass. The
// next pass serves the replay, and begins where the current pass was to end, although another replay joins the
// current pass and wants more records.
func TestReplayBehindAPassIsServedNext(t *testing.T) {
	const records, size = 4000, 4 << 10 // 16 chunks
	var mu sync.Mutex
	var order []int64 // the offset where each chunk begins
	var held atomic.Bool
	held.Store(true)
	broker, c := filledConsumer(t, 1, records, 1, size, func(c *Consumer) {
		c.scans.fetcher.fetched = func(_ zone, k *chunk) {
			mu.Lock()
			defer mu.Unlock()
			order = append(order, k.from)
		}
	})
	var asked atomic.Int32
	holdReplays(broker, func(int64) bool { asked.Add(1); return held.Load() })
	id := topicID(t, c, "t")
	var all sync.WaitGroup
	replay := func(from, to int64) {
		all.Go(func() {
			if next, err := replayOne(t.Context(), c, Partition{Topic: "t", ID: 0}, id, "0", from, to, func(*Record) bool { return true }); next != to || err != nil {
				t.Errorf("the replay from %d ended at %d with %v", from, next, err)
			}
		})
	}
	replay(1000, 2000)
	waitFor(t, "the pass has begun", func() bool { return asked.Load() > 0 })
	replay(0, 1000)
	replay(1500, records)
	waitFor(t, "the other replays wait", func() bool {
		count, _ := c.scans.waiters.countBefore(zone{logID: logID{Partition{Topic: "t", ID: 0}, id}}, records)
		return count == 2
	})
	held.Store(false)
	all.Wait()
	passed := slices.Index(order, 0)
	if passed < 0 || slices.Max(order[:passed]) > 2300 {
		t.Errorf("the replay from 0 waited until after offset 2000, where the pass was to end; offsets of the chunks: %v", order)
	}
}

// TestOnlyReplaysBehindThePassWaitForOthers checks the end of a pass while a replay waits that begins before the
// position of the pass, and memory does not hold the replay's records. That replay waits for further clients. A
// replay of records that no pass has read yet does not wait.
func TestOnlyReplaysBehindThePassWaitForOthers(t *testing.T) {
	const records, size = 4000, 4 << 10
	var held atomic.Bool
	held.Store(true)
	broker, c := filledConsumer(t, 1, records, 1, size, func(c *Consumer) {
		c.scans.calm, c.scans.patience = time.Hour, time.Hour
		c.scans.fetcher.cache = newChunkCache(0)
	})
	var asked atomic.Int32
	holdReplays(broker, func(int64) bool { asked.Add(1); return held.Load() })
	id := topicID(t, c, "t")
	var all sync.WaitGroup
	replay := func(ctx context.Context, from, to int64) {
		all.Go(func() {
			if next, err := replayOne(ctx, c, Partition{Topic: "t", ID: 0}, id, "0", from, to, func(*Record) bool { return true }); next != to || err != nil {
				t.Errorf("the replay from %d ended at %d with %v", from, next, err)
			}
		})
	}
	replay(t.Context(), 1000, 2000)
	waitFor(t, "the pass has begun", func() bool { return asked.Load() > 0 })
	passed, leave := context.WithCancel(t.Context())
	var left sync.WaitGroup
	left.Go(func() {
		next, err := replayOne(passed, c, Partition{Topic: "t", ID: 0}, id, "0", 900, 1100, func(*Record) bool { return true })
		if next != 900 || !errors.Is(err, context.Canceled) {
			t.Errorf("the replay behind the pass ended at %d with %v, want it to wait at 900 until it is cancelled", next, err)
		}
	})
	replay(t.Context(), 1500, records)
	waitFor(t, "the other replays wait", func() bool {
		count, _ := c.scans.waiters.countBefore(zone{logID: logID{Partition{Topic: "t", ID: 0}, id}}, records)
		return count == 2
	})
	held.Store(false)
	all.Wait()
	leave()
	left.Wait()
}
