package consumer

import (
	"encoding/binary"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kfake"
)

// reads counts how often each batch was read from Kafka for replays, by its first offset.
type reads struct {
	mu      sync.Mutex
	batches map[int64]int
}

func (r *reads) count(_ zone, k *chunk) {
	r.mu.Lock()
	defer r.mu.Unlock()
	const headerSize, lengthFrom = 61, 12 // of a record batch (KIP-98)
	for data := k.batches; len(data) >= headerSize; {
		size := lengthFrom + int(binary.BigEndian.Uint32(data[8:]))
		if size > len(data) { // cut off: it comes whole with the next chunk
			return
		}
		r.batches[int64(binary.BigEndian.Uint64(data))]++
		data = data[size:]
	}
}

// storm has clients come back within a second, each at a random position in a log of 16 MiB, and wants
// each to get what it has missed. It returns how often the batch was read that was read most.
func storm(t *testing.T, clients, cacheBytes int, prepare func(*kfake.Cluster, *Consumer)) (most int) {
	t.Helper()
	const records, size = 16_000, 1 << 10
	r := &reads{batches: make(map[int64]int)}
	broker, c := filledConsumer(t, 1, records, clients, size, func(c *Consumer) {
		c.scans.fetcher.fetched = r.count
		c.scans.fetcher.caches = [...]*chunkCache{near: newChunkCache(cacheBytes), far: newChunkCache(0)}
	})
	prepare(broker, c)
	id := topicID(t, c, "t")
	var back sync.WaitGroup
	for user := range clients {
		back.Go(func() {
			time.Sleep(rand.N(time.Second))
			begun, want, got := rand.N(records), 0, 0
			for offset := user; offset < records; offset += clients {
				if offset >= begun {
					want++
				}
			}
			next, err := replayOne(t.Context(), c, Partition{Topic: "t", ID: 0}, id, strconv.Itoa(user), int64(begun), records, func(*Record) bool {
				got++
				return true
			})
			if got != want || next != records || err != nil {
				t.Errorf("user %d from %d: got %d records to %d and %v, want %d", user, begun, got, next, err, want)
			}
		})
	}
	back.Wait()
	most = slices.Max(slices.Collect(maps.Values(r.batches)))
	t.Logf("no batch was read more than %d times, in %.0f passes", most, testutil.ToFloat64(c.metrics.passes))
	return most
}

// TestStormReadsEachBatchTwice counts how often each batch is read when 5,000 come back.
func TestStormReadsEachBatchTwice(t *testing.T) {
	const clients = 5000
	for _, test := range []struct {
		name       string
		cacheBytes int
		prepare    func(*kfake.Cluster, *Consumer)
	}{
		{"all in memory", 32 << 20, func(_ *kfake.Cluster, c *Consumer) {
			c.scans.calm, c.scans.patience = time.Hour, time.Hour // nobody waits for others
		}},
		{"nothing in memory, all come during one pass", 0, func(broker *kfake.Cluster, c *Consumer) {
			c.scans.patience = 0
			holdReplays(broker, func(int64) bool { return testutil.ToFloat64(c.metrics.replays) < clients })
		}},
		{"a quarter in memory, the first who comes has missed most", 4 << 20, func(_ *kfake.Cluster, c *Consumer) {
			c.scans.calm, c.scans.patience = 2*time.Second, time.Hour // a second's storm on a slow machine
			var first sync.WaitGroup
			t.Cleanup(first.Wait)
			p, id := Partition{Topic: "t", ID: 0}, topicID(t, c, "t")
			first.Go(func() {
				if _, err := replayOne(t.Context(), c, p, id, "nobody", 0, 16_000, func(*Record) bool { return true }); err != nil {
					t.Error(err)
				}
			})
			waitFor(t, "the first pass has begun", func() bool { return testutil.ToFloat64(c.metrics.passes) > 0 })
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if most := storm(t, clients, test.cacheBytes, test.prepare); most > 2 {
				t.Errorf("a batch was read %d times, want at most twice", most)
			}
		})
	}
}

const passRecords = 4000 // in the log of longPass

// longPass has one come back who wants what is before the offset, and a second one, who wants the same, when
// the first has been served in part. It returns when that pass, which took so long, is over: what has others
// come back, and all who have.
func longPass(t *testing.T, to int64, took time.Duration, prepare func(*Consumer)) (replay func(from, to int64) (done chan struct{}), all *sync.WaitGroup) {
	t.Helper()
	broker, c := filledConsumer(t, 1, passRecords, 1, 4<<10, func(c *Consumer) {
		c.scans.fetcher.caches = [...]*chunkCache{near: newChunkCache(0), far: newChunkCache(0)}
		prepare(c)
	})
	var held atomic.Bool
	var asked atomic.Int32
	holdReplays(broker, func(offset int64) bool {
		if offset == 0 {
			return false
		}
		asked.Add(1)
		return held.Load()
	})
	held.Store(true)
	id := topicID(t, c, "t")
	all = new(sync.WaitGroup)
	replay = func(from, to int64) (done chan struct{}) {
		done = make(chan struct{})
		all.Go(func() {
			defer close(done)
			if next, err := replayOne(t.Context(), c, Partition{Topic: "t", ID: 0}, id, "0", from, to, func(*Record) bool { return true }); next != to || err != nil {
				t.Errorf("replay ended at %d with %v", next, err)
			}
		})
		return done
	}
	first := replay(0, to)
	waitFor(t, "the pass is on its way", func() bool { return asked.Load() > 0 })
	replay(0, to)
	time.Sleep(took)
	held.Store(false)
	<-first
	return replay, all
}

// TestStormWithAPause has three come back: the second when the first has been served in part, the third
// a moment after that pass, which took a second. The second and the third are served by one more.
func TestStormWithAPause(t *testing.T) {
	const took = time.Second
	r := &reads{batches: make(map[int64]int)}
	replay, all := longPass(t, passRecords, took, func(c *Consumer) {
		c.scans.fetcher.fetched, c.scans.calm = r.count, time.Millisecond
	})
	time.Sleep(took / 5)
	replay(0, passRecords)
	all.Wait()
	if most := slices.Max(slices.Collect(maps.Values(r.batches))); most != 2 {
		t.Errorf("a batch was read %d times, want twice", most)
	}
}

// TestGathering has a pass that took so long end while one waits whom it has passed, and memory holds
// nothing. Others of that kind come some time later.
func TestGathering(t *testing.T) {
	const second = time.Second
	for name, test := range map[string]struct {
		took   time.Duration
		later  []time.Duration
		waited time.Duration
	}{
		"nobody comes":              {2 * second, nil, 2 * second},
		"nobody, after a short one": {time.Millisecond, nil, calm},
		"nobody, after a long one":  {time.Hour, nil, patience},
		"one comes":                 {2 * second, []time.Duration{second + 1}, 3*second + calm}, // seen a calm later
		"one comes too late":        {2 * second, []time.Duration{3 * second}, 2 * second},
		"they go on coming":         {2 * second, []time.Duration{second, 2 * second, 3 * second, 4 * second}, patience},
		"one, after a longer one":   {4 * second, []time.Duration{second + 1}, patience},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := configured(t, []string{"127.0.0.1:1"}, newLedger(), "t")
				c.scans.start(t.Context())
				p := &pass{scans: c.scans, chunks: newChunkReader(c.scans.fetcher, zone{}), high: 1, begun: time.Now()}
				come := func() {
					p.scans.mu.Lock()
					defer p.scans.mu.Unlock()
					p.scans.waiting[p.zone] = append(p.scans.waiting[p.zone], &rangeRequest{replay: new(replay), Range: new(Range)})
				}
				time.Sleep(test.took)
				come()
				for _, d := range test.later {
					time.AfterFunc(d, come)
				}
				began := time.Now()
				p.gather()
				if waited := time.Since(began); waited != test.waited {
					t.Errorf("waited for %v, want %v", waited, test.waited)
				}
			})
		})
	}
}

// TestUnreadDoesNotWaitForAStorm has a second one come back when the first has been served in part, and a
// third one after that pass, which took seconds, for what it has not read: while others are waited for on
// account of the second, the third is served.
func TestUnreadDoesNotWaitForAStorm(t *testing.T) {
	const took = 3 * time.Second
	replay, all := longPass(t, passRecords/2, took, func(c *Consumer) { c.scans.calm = 10 * time.Millisecond })
	pause(t.Context(), took/20) // it is the second's turn to wait
	begun := time.Now()
	<-replay(passRecords-500, passRecords)
	if waited := time.Since(begun); waited > took/2 {
		t.Errorf("the third waited for %v", waited)
	}
	all.Wait()
}

// TestBatchFromItsMiddle has two come back to one batch, the later one to an earlier record: Kafka
// answers with the whole batch to the first.
func TestBatchFromItsMiddle(t *testing.T) {
	const records = 100
	r := &reads{batches: make(map[int64]int)}
	_, c := filledConsumer(t, 1, records, 1, 0, func(c *Consumer) { c.scans.fetcher.fetched = r.count })
	id := topicID(t, c, "t")
	for _, from := range []int64{60, 55, records - 1} { // batches of one record at the start, while the producer connects
		got := int64(0)
		if _, err := replayOne(t.Context(), c, Partition{Topic: "t", ID: 0}, id, "0", from, records, func(*Record) bool { got++; return true }); got != records-from || err != nil {
			t.Errorf("from %d: %d records, %v", from, got, err)
		}
	}
	for offset, times := range r.batches {
		if times > 1 {
			t.Errorf("the batch at %d was read %d times", offset, times)
		}
	}
}
