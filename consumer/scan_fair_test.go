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

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// replayAll replays the last so many of a number of records in each of the partitions and returns how
// many were the user's. After an error it asks again, as a stream does.
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
		tb.Errorf("user %s: replay of %s ended at %d with %v", user, ranges[i].Partition, ranges[i].Next, ranges[i].Err)
	}
	return got
}

// holdReplays has the broker hold fetches of replays, of which the function says so, until it does not
// any more.
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

// nearBesideFar has users come back in two waves who are 100 records behind in each of four partitions.
// With far, another user is at the start of all of them, and goes on by half of the way between the
// waves and to the end after them. It returns how many chunks were read from Kafka for the near ones.
func nearBesideFar(t *testing.T, withFar bool) int {
	t.Helper()
	const partitions, records, users = 4, farBehind + 10_000, 1000
	var read [2]atomic.Int64 // chunks, by distance
	broker, c := filledConsumer(t, partitions, records, users, 60, func(c *Consumer) {
		c.scans.fetcher.caches = [...]*chunkCache{near: newChunkCache(2 << 20), far: newChunkCache(1 << 20)}
		c.scans.fetcher.fetched = func(z zone, _ *chunk) { read[z.distance].Add(1) }
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var end atomic.Int64 // where the far one is held
	farDone := make(chan int, 1)
	if withFar {
		end.Store(1)
		holdReplays(broker, func(offset int64) bool { return offset >= end.Load() && offset < records-1000 })
		go func() { farDone <- replayAll(ctx, t, c, "7", partitions, records, records) }()
		waitFor(t, "the far one reads in all partitions", func() bool { return read[far].Load() == partitions })
	}
	wave := func() {
		var back sync.WaitGroup
		for user := range users {
			back.Go(func() {
				want := 0 // of the last 100 records, of which each user has one in a thousand
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
		case <-farDone:
			t.Error("the far one is done before the near ones")
		default:
		}
	}
	wave()
	if withFar {
		end.Store(records / 2)
		waitFor(t, "the far one has read more than memory holds", func() bool { return read[far].Load() > 4*partitions })
	}
	wave()
	if withFar {
		end.Store(records)
		if got, want := <-farDone, partitions*records/users; got != want {
			t.Errorf("the far one got %d records, want %d", got, want)
		}
		t.Logf("%d chunks were read for the far one", read[far].Load())
	}
	return int(read[near].Load())
}

// TestFarDelaysNobody has many users who are seconds behind come and go while one is a week behind, in
// as many partitions as there are far scans at a time: he does not get on, and they do. What they share
// in memory stays there.
func TestFarDelaysNobody(t *testing.T) {
	alone, beside := nearBesideFar(t, false), nearBesideFar(t, true)
	t.Logf("the near ones had %d chunks read without a far one, %d with one", alone, beside)
	if alone != 4 || beside != alone {
		t.Errorf("%d chunks were read without the far one and %d with it, want one of each of 4 partitions", alone, beside)
	}
}

// TestFarGiveWay has two users far behind in partitions of their own, and one scan at a time: each gets
// some chunks in turn.
func TestFarGiveWay(t *testing.T) {
	const records, size, turn = 4000, 4 << 10, 2 // 16 MiB each
	var mu sync.Mutex
	var order []int32 // of the partitions that were read
	var held atomic.Bool
	held.Store(true)
	broker, c := filledConsumer(t, 2, records, 1, size, func(c *Consumer) {
		c.scans.farBehind, c.scans.turnChunks = 1000, turn
		c.scans.slots[far] = make(chan struct{}, 1)
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
				t.Errorf("replay of partition %d ended at %d with %v", p, next, err)
			}
		})
	}
	waitFor(t, "both wait", func() bool {
		c.scans.mu.Lock()
		defer c.scans.mu.Unlock()
		return len(c.scans.waiting) == 2
	})
	held.Store(false)
	both.Wait()
	if len(order) < 8*turn {
		t.Fatalf("%d chunks were read: that shows nothing", len(order))
	}
	for i := range len(order) - 4*turn { // then one of them is done
		if same := order[i : i+turn+1]; same[0] == same[1] && same[1] == same[2] {
			t.Fatalf("more than %d chunks in a row of one partition: %v", turn, order)
		}
	}
}

// TestPassedOnesAreNext has somebody come whom a pass has passed, and another who joins it and wants
// more than those for whom it began: he does not keep it from ending.
func TestPassedOnesAreNext(t *testing.T) {
	const records, size = 4000, 4 << 10 // 16 chunks
	var mu sync.Mutex
	var order []int64 // of the offsets where chunks begin
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
				t.Errorf("replay from %d ended at %d with %v", from, next, err)
			}
		})
	}
	replay(1000, 2000)
	waitFor(t, "the pass has begun", func() bool { return asked.Load() > 0 })
	replay(0, 1000)
	replay(1500, records)
	waitFor(t, "the others wait", func() bool {
		c.scans.mu.Lock()
		defer c.scans.mu.Unlock()
		return len(c.scans.waiting[zone{logID: logID{Partition{Topic: "t", ID: 0}, id}}]) == 2
	})
	held.Store(false)
	all.Wait()
	passed := slices.Index(order, 0)
	if passed < 0 || slices.Max(order[:passed]) > 2300 {
		t.Errorf("the one who was passed at 1000 has waited beyond 2000, where the pass was to end: %v", order)
	}
}

// TestGatheringIsForThePassed has a pass end while somebody waits whom it has passed, and memory does not
// hold what he wants. He waits for others; whoever wants what was not read yet does not.
func TestGatheringIsForThePassed(t *testing.T) {
	const records, size = 4000, 4 << 10
	var held atomic.Bool
	held.Store(true)
	broker, c := filledConsumer(t, 1, records, 1, size, func(c *Consumer) {
		c.scans.calm, c.scans.patience = time.Hour, time.Hour
		c.scans.fetcher.caches = [...]*chunkCache{near: newChunkCache(0), far: newChunkCache(0)}
	})
	var asked atomic.Int32
	holdReplays(broker, func(int64) bool { asked.Add(1); return held.Load() })
	id := topicID(t, c, "t")
	var all sync.WaitGroup
	replay := func(ctx context.Context, from, to int64) {
		all.Go(func() {
			if next, err := replayOne(ctx, c, Partition{Topic: "t", ID: 0}, id, "0", from, to, func(*Record) bool { return true }); next != to || err != nil {
				t.Errorf("replay from %d ended at %d with %v", from, next, err)
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
			t.Errorf("the one who was passed came to %d with %v, want him to wait for others", next, err)
		}
	})
	replay(t.Context(), 1500, records)
	waitFor(t, "the others wait", func() bool {
		c.scans.mu.Lock()
		defer c.scans.mu.Unlock()
		return len(c.scans.waiting[zone{logID: logID{Partition{Topic: "t", ID: 0}, id}}]) == 2
	})
	held.Store(false)
	all.Wait()
	leave()
	left.Wait()
}

// TestScansAtATime has replays of 40 partitions wait for the broker, each partition by one who is near
// and one who is far: 16 fetches are under way, 4 of them far ones, and each asks for 1 MiB at most.
func TestScansAtATime(t *testing.T) {
	const partitions, records, last = 40, 200, 50
	broker, c := filledConsumer(t, partitions, records, 1, 0, func(c *Consumer) {
		c.scans.farBehind = 100
	})
	var mu sync.Mutex
	var under, most [2]int // by distance
	release := make(chan struct{})
	broker.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		broker.KeepControl()
		fetch := req.(*kmsg.FetchRequest)
		if fetch.SessionEpoch != -1 {
			return nil, nil, false
		}
		asked := fetch.Topics[0].Partitions[0]
		if asked.PartitionMaxBytes > chunkBytes {
			t.Errorf("a fetch asks for %d bytes", asked.PartitionMaxBytes)
		}
		d := near
		if asked.FetchOffset < records-last {
			d = far
		}
		mu.Lock()
		under[d]++
		most[d] = max(most[d], under[d])
		mu.Unlock()
		broker.SleepControl(func() { <-release })
		mu.Lock()
		under[d]--
		mu.Unlock()
		return nil, nil, false
	})
	var all sync.WaitGroup
	all.Go(func() { replayAll(t.Context(), t, c, "0", partitions, records, last) })
	all.Go(func() { replayAll(t.Context(), t, c, "0", partitions, records, records) })
	count := func(d distance) int {
		mu.Lock()
		defer mu.Unlock()
		return under[d]
	}
	waitFor(t, "as many as may be are under way", func() bool { return count(near) >= 12 && count(far) >= 4 })
	time.Sleep(200 * time.Millisecond) // more would come now
	close(release)
	all.Wait()
	if most != [...]int{near: 12, far: 4} {
		t.Errorf("at most %d near and %d far fetches were under way, want 12 and 4", most[near], most[far])
	}
}

// TestReplaysDoWithoutAHungBroker has users come back for what they missed in partitions of a broker that takes
// requests and never answers, more of them than there are slots: others' replays wait for the first request
// to time out and no longer. Once the broker answers, the users get what they missed.
func TestReplaysDoWithoutAHungBroker(t *testing.T) {
	t.Parallel()
	const partitions = 30
	var hearing ears
	broker, err := kfake.NewCluster(kfake.NumBrokers(2), kfake.SeedTopics(partitions, "zero"), kfake.SeedTopics(1, "one"), hearing.listen())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Close)
	write := partitioned(t, broker)
	for p := range int32(partitions) {
		if err := broker.MoveTopicPartition("zero", p, 0); err != nil {
			t.Fatal(err)
		}
		write("zero", p, "a", "missed")
	}
	if err := broker.MoveTopicPartition("one", 0, 1); err != nil {
		t.Fatal(err)
	}
	write("one", 0, "a", "missed")
	c := configured(t, broker.ListenAddrs(), newLedger(), "zero", "one")
	c.scans.slots[near] = make(chan struct{}, 1)
	run(t, c)
	ready(t, c)

	hearing[0].Store(true)
	var back sync.WaitGroup
	zero := topicID(t, c, "zero")
	for p := range int32(partitions) {
		back.Go(func() {
			for next := int64(0); next == 0; pause(t.Context(), 10*time.Millisecond) {
				next, _ = replayOne(t.Context(), c, Partition{Topic: "zero", ID: p}, zero, "a", 0, 1, func(*Record) bool { return true })
				if t.Context().Err() != nil {
					t.Errorf("partition %d was not replayed", p)
					return
				}
			}
		})
	}
	waitFor(t, "they wait", func() bool { return testutil.ToFloat64(c.metrics.replays) >= partitions })
	served := make(chan struct{})
	go func() {
		defer close(served)
		if _, err := replayOne(t.Context(), c, Partition{Topic: "one", ID: 0}, topicID(t, c, "one"), "a", 0, 1, func(*Record) bool { return true }); err != nil {
			t.Error(err)
		}
	}()
	finishes(t, "a replay of another broker's partition", served) // 30 requests of 10 s and more would not
	hearing[0].Store(false)
	back.Wait()
}
