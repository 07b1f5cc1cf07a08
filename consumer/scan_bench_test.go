package consumer

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
)

// BenchmarkNearBesideFar has users come back, eight at a time, who are 100 records behind in each of four
// partitions: first alone, then beside one who reads all of them from the start again and again. One
// operation is one user of each. The broker is in this process, so that the far one
// takes its CPU too.
func BenchmarkNearBesideFar(b *testing.B) {
	const partitions, records, together = 4, farBehind + 50_000, 8
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(partitions, "t"))
	if err != nil {
		b.Fatal(err)
	}
	defer broker.Close()
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
	near := func() (p99 float64) {
		var mu sync.Mutex
		var took []time.Duration
		var users sync.WaitGroup
		for range together {
			users.Go(func() {
				for range (b.N + together - 1) / together {
					begun := time.Now()
					replayAll(ctx, b, c, "999", partitions, records, 100)
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
	b.ResetTimer()
	alone := near()
	far, leave := context.WithCancel(ctx)
	var farDone sync.WaitGroup
	farDone.Go(func() {
		for far.Err() == nil {
			var ranges []Range
			for p := range int32(partitions) {
				ranges = append(ranges, Range{Partition: Partition{Topic: "t", ID: p}, TopicID: c.topics.states["t"].id, To: records})
			}
			c.Replay(far, "7", ranges, func(*Range, *Record) bool { return true })
		}
	})
	beside := near()
	leave()
	farDone.Wait()
	b.ReportMetric(alone, "alone-p99-ms")
	b.ReportMetric(beside, "beside-p99-ms")
	b.ReportMetric(beside/alone, "ratio")
	cancel()
	if err := <-ended; err != nil {
		b.Error(err)
	}
}
