package consumer

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
)

// BenchmarkShortBesideLong measures replays of the last 100 records of four partitions, eight replays at a time:
// first alone, then beside a user whose replays read the partitions from the start again and again. One
// operation is one replay alone and one replay beside that user. The broker runs in this process, so the long
// replays take CPU time from it too.
func BenchmarkShortBesideLong(b *testing.B) {
	const partitions, records, together = 4, longRange + 50_000, 8
	broker := newBroker(b, kfake.SeedTopics(partitions, "t"))
	fill(b, broker.ListenAddrs()[0], partitions, records, 1000, 60)
	c, err := New(Config{Brokers: broker.ListenAddrs(), Group: "bench", Replica: "one", Routes: []Route{{Topic: "t"}}}, &countSink{})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	for c.Ready() != nil {
		time.Sleep(time.Millisecond)
	}
	short := func() float64 {
		return replayP99(b, together, func() { replayAll(ctx, b, c, "999", partitions, records, 100) })
	}
	b.ResetTimer()
	alone := short()
	long, leave := context.WithCancel(ctx)
	var longDone sync.WaitGroup
	longDone.Go(func() {
		for long.Err() == nil {
			var ranges []Range
			for p := range int32(partitions) {
				ranges = append(ranges, Range{Partition: Partition{Topic: "t", ID: p}, TopicID: c.topics.states["t"].id, To: records})
			}
			c.Replay(long, "7", ranges, func(*Range, *Record) bool { return true })
		}
	})
	beside := short()
	leave()
	longDone.Wait()
	b.ReportMetric(alone, "alone-p99-ms")
	b.ReportMetric(beside, "beside-p99-ms")
	b.ReportMetric(beside/alone, "ratio")
	cancel()
	if err := <-ended; err != nil {
		b.Error(err)
	}
}

// replayP99 calls replay b.N times, in as many goroutines as together says, and returns the 99th percentile of
// its duration in milliseconds.
func replayP99(b *testing.B, together int, replay func()) float64 {
	b.Helper()
	var mu sync.Mutex
	var took []time.Duration
	var users sync.WaitGroup
	for range together {
		users.Go(func() {
			for range (b.N + together - 1) / together {
				begun := time.Now()
				replay()
				mu.Lock()
				took = append(took, time.Since(begun))
				mu.Unlock()
			}
		})
	}
	users.Wait()
	slices.Sort(took)
	return took[len(took)*99/100].Seconds() * 1000
}
