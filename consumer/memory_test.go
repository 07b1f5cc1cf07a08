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

// progress is a Sink that counts what each partition has had, in bytes of values.
type progress struct {
	*ledger // for the rest

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

// behind says how many partitions have had less than so much.
func (s *progress) behind(partitions, least int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.bytes {
		if n >= least {
			partitions--
		}
	}
	return partitions
}

// peakInUse is peakHeap with a collector that leaves little, so that other tests' garbage does not matter.
func peakInUse(t *testing.T) func() float64 {
	t.Helper()
	was := debug.SetGCPercent(10)
	t.Cleanup(func() { debug.SetGCPercent(was) })
	runtime.GC() // sync.Pool keeps its own for one more
	return peakHeap(t)
}

// TestMemoryOfSessionsFarBehind reads 34 partitions over 17 sessions that are all far behind, by more than
// they could ever read. Memory is that of their answers, and of a few that are fetched ahead.
func TestMemoryOfSessionsFarBehind(t *testing.T) {
	const sessions = 17
	peaks := make(map[int32]float64)
	for _, test := range []struct {
		fetchMaxBytes int32
		most          float64 // MB
	}{
		{512 << 10, 60},
		{8 << 20, 280}, // 17 answers of 8.4 MB, 4 ahead, and what was too small for one
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
				c.topics.states[name].settleLocked(true) // as if it had been known and missing: it is read from its start
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan error, 1)
			heap := peakInUse(t)
			go func() { ended <- c.Run(ctx) }()
			least := 3 * int(test.fetchMaxBytes) // three answers for each session, and of its two partitions
			for deadline := time.Now().Add(2 * time.Minute); sink.behind(len(names), least/2) > 0; time.Sleep(10 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("%d of %d partitions had less than %d bytes in time", sink.behind(len(names), least/2), len(names), least/2)
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
				t.Errorf("the heap had up to %.0f MB, want %.0f at most", peak, test.most)
			}
		})
	}
	if small, large := peaks[512<<10], peaks[8<<20]; small*3 > large {
		t.Errorf("the heap had up to %.0f MB with answers of 512 KiB and %.0f MB with 8 MiB, want a third at most", small, large)
	}
}
