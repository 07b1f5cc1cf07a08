package consumer

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"herald/consumer/broker"
)

// BenchmarkMissing measures two costs of missing topics: a metadata request for the topics of one turn,
// none of which exists, and a user without a topic who joins and leaves while other users wait for
// their topics.
func BenchmarkMissing(b *testing.B) {
	address := os.Getenv("HERALD_BENCH_BROKER")
	if address == "" {
		broker := newBroker(b)
		address = broker.ListenAddrs()[0]
	}
	b.Run(fmt.Sprintf("ask about %d", turnTopics), func(b *testing.B) {
		c := broker.NewCluster([]string{address}, nil, nil, time.Minute)
		defer c.Close()
		var names []string
		for i := range turnTopics {
			names = append(names, fmt.Sprint("missing.", i))
		}
		for b.Loop() {
			if _, err := c.FetchMetadata(b.Context(), names, false); err != nil {
				b.Fatal(err)
			}
		}
	})
	for _, users := range []int{100, 10_000} {
		b.Run(fmt.Sprintf("join beside %d", users), func(b *testing.B) {
			c, err := New(Config{Brokers: []string{address}, Group: "missing", Replica: "one", Routes: []Route{{Topic: "missing.{user}", Kind: PerUser}}}, &countSink{})
			if err != nil {
				b.Fatal(err)
			}
			ctx, cancel := context.WithCancel(b.Context())
			ended := make(chan error, 1)
			go func() { ended <- c.Run(ctx) }()
			join := func(user int) {
				if _, err := c.Join(ctx, strconv.Itoa(user)); err != nil {
					b.Error(err)
				}
			}
			var joined sync.WaitGroup
			for i := range users {
				joined.Go(func() { join(i) })
			}
			joined.Wait()
			before, user := cpu(b), users
			for b.Loop() {
				join(user)
				c.Leave(strconv.Itoa(user))
				user++
			}
			b.ReportMetric(float64(cpu(b)-before)/float64(b.N), "cpu-ns/op")
			cancel()
			if err := <-ended; err != nil {
				b.Error(err)
			}
		})
	}
}
