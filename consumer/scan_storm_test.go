package consumer

import (
	"encoding/binary"
	"errors"
	"fmt"
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

// reads counts how often replays read each batch from Kafka, by the first offset of the batch.
type reads struct {
	mu      sync.Mutex
	batches map[int64]int
}

func (r *reads) count(_ zone, k *chunk) {
	r.mu.Lock()
	defer r.mu.Unlock()
	const headerSize, lengthFrom = 61, 12 // a batch's header, and the bytes that the batch's length does not count (KIP-98)
	for data := k.batches; len(data) >= headerSize; {
		size := lengthFrom + int(binary.BigEndian.Uint32(data[8:]))
		if size > len(data) { // the batch is cut off; the next chunk has all of it
			return
		}
		r.batches[int64(binary.BigEndian.Uint64(data))]++
		data = data[size:]
	}
}

// storm lets clients come back within a second, each at a random position in a log of 16 MiB, and checks that
// each client gets the records that it missed. It returns the highest number of reads of one batch.
func storm(t *testing.T, clients, cacheBytes int, prepare func(*kfake.Cluster, *Consumer)) (most int) {
	t.Helper()
	const records, size = 16_000, 1 << 10
	r := &reads{batches: make(map[int64]int)}
	broker, c := filledConsumer(t, 1, records, clients, size, func(c *Consumer) {
		c.scans.fetcher.fetched = r.count
		c.scans.fetcher.cache = newChunkCache(cacheBytes)
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
				t.Errorf("user %d from %d: got %d records, ended at %d with %v, want %d records", user, begun, got, next, err, want)
			}
		})
	}
	back.Wait()
	most = slices.Max(slices.Collect(maps.Values(r.batches)))
	t.Logf("no batch was read more than %d times, in %.0f passes", most, testutil.ToFloat64(c.metrics.passes))
	return most
}

// TestStormReadsEachBatchAtMostTwice checks how often replays read a batch from Kafka when 5,000 clients come
// back within a second.
func TestStormReadsEachBatchAtMostTwice(t *testing.T) {
	const clients = 5000
	for _, test := range []struct {
		name       string
		cacheBytes int
		prepare    func(*kfake.Cluster, *Consumer)
	}{
		{"all in memory", 32 << 20, func(_ *kfake.Cluster, c *Consumer) {
			c.scans.calm, c.scans.patience = time.Hour, time.Hour // a replay that waited for other clients would not end in time
		}},
		{"nothing in memory, all clients come during one pass", 0, func(broker *kfake.Cluster, c *Consumer) {
			c.scans.patience = 0
			var last sync.Once
			holdReplays(broker, func(int64) bool {
				if testutil.ToFloat64(c.metrics.replays) < clients {
					return true
				}
				last.Do(func() { time.Sleep(time.Second) }) // a replay is counted before its request waits
				return false
			})
		}},
		{"a quarter in memory, the first client has missed most", 4 << 20, func(broker *kfake.Cluster, c *Consumer) {
			c.scans.calm, c.scans.patience = 4*time.Second, time.Hour // longer than a pause between clients on a slow machine
			var first sync.WaitGroup
			t.Cleanup(first.Wait)
			p, id := Partition{Topic: "t", ID: 0}, topicID(t, c, "t")
			holdReplays(broker, func(offset int64) bool { // the first pass lasts until a client needs the next one
				behind, _ := c.scans.waiters.countBefore(zone{logID: logID{p, id}}, offset)
				return offset > 0 && behind == 0 && testutil.ToFloat64(c.metrics.passes) == 1
			})
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
				t.Errorf("one batch was read %d times, want at most twice", most)
			}
		})
	}
}

const passRecords = 4000 // in the log of longPass

// longPass starts a client's replay of the records before the offset to, and a second client's replay of the
// same records when the first replay has got a part of them. The broker holds the first pass for the duration
// took. longPass returns when the first replay has ended. It returns a function that starts further replays, a
// channel that is closed when the second replay has ended, and a group that waits for all replays.
func longPass(t *testing.T, to int64, took time.Duration, prepare func(*Consumer)) (replay func(from, to int64) (done chan struct{}), second chan struct{}, all *sync.WaitGroup) {
	t.Helper()
	broker, c := filledConsumer(t, 1, passRecords, 1, 4<<10, func(c *Consumer) {
		c.scans.fetcher.cache = newChunkCache(0)
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
				t.Errorf("the replay ended at %d with %v", next, err)
			}
		})
		return done
	}
	first := replay(0, to)
	waitFor(t, "the pass has read its first chunk", func() bool { return asked.Load() > 0 })
	second = replay(0, to)
	time.Sleep(took)
	held.Store(false)
	<-first
	return replay, second, all
}

// succeeds tries up to three times, because a client comes too late on a machine that stalls for seconds.
func succeeds(t *testing.T, try func() error) {
	t.Helper()
	var err error
	for range 3 {
		if err = try(); err == nil {
			return
		}
		t.Log(err)
	}
	t.Error("three times in a row: ", err)
}

// TestOnePassServesClientsThatCameDuringAndAfterAnother checks three clients: the second comes during the first
// client's pass, which takes a second, and the third comes a moment after that pass. One further pass serves
// the second and the third client.
func TestOnePassServesClientsThatCameDuringAndAfterAnother(t *testing.T) {
	const took = time.Second
	succeeds(t, func() error {
		r := &reads{batches: make(map[int64]int)}
		replay, _, all := longPass(t, passRecords, took, func(c *Consumer) {
			c.scans.fetcher.fetched, c.scans.calm = r.count, time.Millisecond
		})
		time.Sleep(took / 5)
		replay(0, passRecords)
		all.Wait()
		if most := slices.Max(slices.Collect(maps.Values(r.batches))); most != 2 {
			return fmt.Errorf("one batch was read %d times, want twice", most)
		}
		return nil
	})
}

// TestNextPassWaitsForClientsOfAStorm checks how long the next pass waits after a pass of a given duration, while
// memory holds nothing and one request waits that the pass has gone past. Further such requests arrive later.
func TestNextPassWaitsForClientsOfAStorm(t *testing.T) {
	const second = time.Second
	for name, test := range map[string]struct {
		took   time.Duration
		later  []time.Duration
		waited time.Duration
	}{
		"no client comes":                       {2 * second, nil, 2 * second},
		"no client comes after a short pass":    {time.Millisecond, nil, calm},
		"no client comes after a pass of 80 ms": {80 * time.Millisecond, nil, calm},
		"no client comes after a long pass":     {time.Hour, nil, patience},
		"one client comes":                      {2 * second, []time.Duration{second + 1}, 3*second + calm}, // gather sees the client up to calm later
		"one client comes too late":             {2 * second, []time.Duration{3 * second}, 2 * second},
		"clients keep coming":                   {2 * second, []time.Duration{second, 2 * second, 3 * second, 4 * second}, patience},
		"clients keep coming after a short pass": {
			80 * time.Millisecond, []time.Duration{second / 5, second * 2 / 5, second * 3 / 5, second * 4 / 5, second, second * 6 / 5}, second * 8 / 10,
		},
		"one client comes after a longer pass": {4 * second, []time.Duration{second + 1}, patience},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := configured(t, []string{"127.0.0.1:1"}, newLedger(), "t")
				c.scans.start(t.Context())
				p := &pass{ctx: t.Context(), scans: c.scans, chunks: newChunkReader(c.scans.fetcher, zone{}), high: 1, begun: time.Now()}
				come := func() {
					p.scans.waiters.putBack(p.zone, []*rangeRequest{{replay: new(replay), Range: new(Range)}})
				}
				time.Sleep(test.took)
				come()
				for _, d := range test.later {
					time.AfterFunc(d, come)
				}
				began := time.Now()
				p.gather()
				if waited := time.Since(began); waited != test.waited {
					t.Errorf("the pass waited for %v, want %v", waited, test.waited)
				}
			})
		})
	}
}

// TestReplayOfUnreadRecordsDoesNotWaitForAStorm checks three clients: the second comes during the first client's
// pass, which takes seconds, and waits after the pass for further clients. The third client wants records that
// the pass has not read, and gets them without that wait.
func TestReplayOfUnreadRecordsDoesNotWaitForAStorm(t *testing.T) {
	const took = 3 * time.Second
	succeeds(t, func() error {
		replay, second, all := longPass(t, passRecords/2, took, func(c *Consumer) { c.scans.calm = 10 * time.Millisecond })
		defer all.Wait()
		pause(t.Context(), took/20) // the second client begins to wait for further clients
		<-replay(passRecords-500, passRecords)
		select {
		case <-second:
			return errors.New("the third client waited until the second client had its records")
		default:
			return nil
		}
	})
}

// TestBatchIsReadOnceForReplaysThatBeginInIt checks two replays that begin in one batch, the later replay at an
// earlier record. Kafka answers the first replay with the whole batch, so the second one reads from memory.
func TestBatchIsReadOnceForReplaysThatBeginInIt(t *testing.T) {
	const records = 100
	r := &reads{batches: make(map[int64]int)}
	_, c := filledConsumer(t, 1, records, 1, 0, func(c *Consumer) { c.scans.fetcher.fetched = r.count })
	id := topicID(t, c, "t")
	for _, from := range []int64{60, 55, records - 1} { // batches of one record at the start, while the producer connects
		got := int64(0)
		if _, err := replayOne(t.Context(), c, Partition{Topic: "t", ID: 0}, id, "0", from, records, func(*Record) bool { got++; return true }); got != records-from || err != nil {
			t.Errorf("the replay from %d got %d records and %v, want %d records", from, got, err, records-from)
		}
	}
	for offset, times := range r.batches {
		if times > 1 {
			t.Errorf("the batch at %d was read %d times, want once", offset, times)
		}
	}
}
