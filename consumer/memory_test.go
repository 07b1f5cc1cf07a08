package consumer

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"testing"
	"time"
)

// progress is a Sink that counts the bytes of record values delivered from each partition.
type progress struct {
	*ledger // implements the other methods

	mu    sync.Mutex
	bytes map[Partition]int
}

func (s *progress) Deliver(p Partition, records []Record, _ int64) {
	n := 0
	for i := range records {
		n += len(records[i].Value)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bytes[p] += n
}

// countBelow returns how many partitions have delivered fewer than least bytes.
func (s *progress) countBelow(partitions, least int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.bytes {
		if n >= least {
			partitions--
		}
	}
	return partitions
}

// peakInUse measures the heap like peakHeap, with a garbage collector that runs often, so that garbage of
// other tests does not count.
func peakInUse(t *testing.T) func() float64 {
	t.Helper()
	was := debug.SetGCPercent(10)
	t.Cleanup(func() { debug.SetGCPercent(was) })
	runtime.GC() // sync.Pool frees its values only at the second collection
	return peakHeap(t)
}

// TestMemoryIsBoundedWhileSessionsCatchUp checks how much memory 17 fetch sessions use that read a long
// backlog of 34 partitions. The answer of each session and a few answers fetched ahead fit into the bound.
func TestMemoryIsBoundedWhileSessionsCatchUp(t *testing.T) {
	const sessions = 17
	peaks := make(map[int32]float64)
	for _, test := range []struct {
		fetchMaxBytes int32
		most          float64 // MB
	}{
		{512 << 10, 60},
		{8 << 20, 280}, // 17 answers of 8.4 MB, 4 answers fetched ahead, and buffers that were too small for an answer
	} {
		t.Run(fmt.Sprintf("%d KiB", test.fetchMaxBytes>>10), func(t *testing.T) {
			address, _ := brokerProcess(t, 1000, 0)
			names := createTopics(t, address, 2*sessions)
			sink := &progress{ledger: newLedger(), bytes: make(map[Partition]int)}
			cfg := Config{Brokers: []string{address}, Group: "memory", Replica: "one", SessionPartitions: 2, FetchMaxBytes: test.fetchMaxBytes}
			for _, name := range names {
				cfg.Routes = append(cfg.Routes, Route{Topic: name})
			}
			c, err := New(cfg, sink)
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range names {
				c.topics.states[name].settleLocked(true) // a topic known to be missing is read from its start once it exists
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan error, 1)
			heap := peakInUse(t)
			go func() { ended <- c.Run(ctx) }()
			least := 3 * int(test.fetchMaxBytes) // three answers for each session, for its two partitions together
			for deadline := time.Now().Add(2 * time.Minute); sink.countBelow(len(names), least/2) > 0; time.Sleep(10 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("%d of %d partitions delivered less than %d bytes within two minutes", sink.countBelow(len(names), least/2), len(names), least/2)
				}
			}
			peak := heap()
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
			t.Logf("%.0f MB", peak)
			peaks[test.fetchMaxBytes] = peak
			if peak > test.most {
				t.Errorf("the heap grew to %.0f MB, want at most %.0f", peak, test.most)
			}
		})
	}
	if small, large := peaks[512<<10], peaks[8<<20]; small*3 > large {
		t.Errorf("the heap grew to %.0f MB with answers of 512 KiB and to %.0f MB with answers of 8 MiB, want at most a third", small, large)
	}
}
