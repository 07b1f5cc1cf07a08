package consumer

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"herald/consumer/broker"
)

// BenchmarkWakeUp measures the time from the produce request of a record until its delivery, and counts the
// connections. Each record goes to a random topic of many, and each topic has its own user. The environment
// variable HERALD_BENCH_BROKER names a broker to use in place of a broker started for the benchmark. kafka.Client
// is left out, because it fetches one partition at a time.
func BenchmarkWakeUp(b *testing.B) {
	for _, topics := range []int{1, 100, 1000, 5000} {
		var names []string // the topics, which all readers share on the broker of HERALD_BENCH_BROKER
		for _, w := range []struct {
			name  string
			start func(ctx context.Context, b *testing.B, address string, names []string) (delivered chan struct{})
		}{{"herald", wakeHerald(DefaultSessionPartitions)}, {"herald-60", wakeHerald(60)}, {"kafka.Reader", wakeReader}, {"franz-go", wakeFranz}} {
			b.Run(fmt.Sprintf("topics=%d/%s", topics, w.name), func(b *testing.B) {
				address := os.Getenv("HERALD_BENCH_BROKER")
				if address == "" {
					address, _ = brokerProcess(b, 0, 0)
					names = nil
				}
				if names == nil {
					names = createTopics(b, address, topics)
				}
				ctx, cancel := context.WithTimeout(b.Context(), benchBound)
				defer cancel()
				wake(ctx, b, address, names, func() chan struct{} { return w.start(ctx, b, address, names) })
			})
		}
	}
}

// wake measures one reader, which start starts.
func wake(ctx context.Context, b *testing.B, address string, names []string, start func() chan struct{}) {
	b.Helper()
	producer, err := kgo.NewClient(kgo.SeedBrokers(address), kgo.ProducerLinger(0), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		b.Fatal(err)
	}
	defer producer.Close()
	for _, name := range names { // the producer learns the leaders of all topics
		producer.Produce(ctx, &kgo.Record{Topic: name, Value: []byte("x")}, nil)
	}
	bounded(ctx, b, producer.Flush(ctx))
	before := connections(b, address)
	delivered := start()
	one := func() {
		err := producer.ProduceSync(ctx, &kgo.Record{Topic: names[rand.IntN(len(names))], Value: []byte("x")}).FirstErr()
		bounded(ctx, b, err)
		await(ctx, b, delivered)
	}
	time.Sleep(quietAfter + quietMaxWait)   // the reader's sessions become quiet
	warm := time.Now().Add(5 * time.Second) // time for the broker's just-in-time compiler
	for n := 0; n < 2000 && time.Now().Before(warm); n++ {
		one()
	}
	times := make([]time.Duration, 0, b.N)
	for b.Loop() {
		begun := time.Now()
		one()
		times = append(times, time.Since(begun))
	}
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(times[len(times)*99/100].Microseconds())/1000, "p99-ms")
	b.ReportMetric(float64(connections(b, address)-before), "connections")
}

// await waits until the reader delivers one record.
func await(ctx context.Context, b *testing.B, delivered chan struct{}) {
	b.Helper()
	select {
	case <-delivered:
	case <-ctx.Done():
		bounded(ctx, b, nil)
	}
}

// connections counts the connections from this machine to the address.
func connections(b *testing.B, address string) int {
	b.Helper()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		b.Fatal(err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		b.Fatal(err)
	}
	count := 0
	for _, file := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		table, err := os.ReadFile(file) //nolint:gosec // the path is a constant
		if err != nil {
			b.Fatal(err)
		}
		for line := range strings.Lines(string(table)) { // number, local, remote, state
			fields := strings.Fields(line)
			if _, remote, ok := strings.Cut(fields[2], ":"); ok && remote == fmt.Sprintf("%04X", number) && fields[3] == "01" {
				count++
			}
		}
	}
	return count
}

// createTopics creates n topics of one partition each, with names that no other run uses.
func createTopics(tb testing.TB, address string, n int) []string {
	tb.Helper()
	c := broker.NewCluster([]string{address}, nil, nil, time.Minute)
	defer c.Close()
	run := fmt.Sprintf("bench%d.", time.Now().UnixNano())
	var names []string
	for len(names) < n {
		req := kmsg.NewPtrCreateTopicsRequest()
		req.Version, req.TimeoutMillis = 5, 60_000
		for range min(500, n-len(names)) {
			t := kmsg.NewCreateTopicsRequestTopic()
			t.Topic, t.NumPartitions, t.ReplicationFactor = fmt.Sprint(run, len(names)), 1, 1
			names = append(names, t.Topic)
			req.Topics = append(req.Topics, t)
		}
		res, err := c.Request(tb.Context(), broker.Any, req, nil)
		if err != nil {
			tb.Fatal(err)
		}
		for _, t := range res.(*kmsg.CreateTopicsResponse).Topics {
			if err := kerr.ErrorForCode(t.ErrorCode); err != nil {
				tb.Fatal(t.Topic, err)
			}
		}
	}
	return names
}

// signalSink is a Sink that sends to delivered for each record.
type signalSink struct{ delivered chan struct{} }

func (s signalSink) Begin(Partition, [16]byte, int64) {}
func (s signalSink) Gap(Partition, Gap)               {}
func (s signalSink) End(Partition)                    {}

func (s signalSink) Deliver(_ Partition, records []Record, _ int64) {
	for range records {
		s.delivered <- struct{}{}
	}
}

// wakeHerald returns a function that starts a consumer with the number of partitions in a fetch session.
func wakeHerald(sessionPartitions int) func(ctx context.Context, b *testing.B, address string, names []string) chan struct{} {
	return func(ctx context.Context, b *testing.B, address string, names []string) chan struct{} {
		b.Helper()
		return wakeConsumer(ctx, b, names, Config{Brokers: []string{address}, SessionPartitions: sessionPartitions})
	}
}

// wakeConsumer runs a consumer of the topics and lets the user of each topic join.
func wakeConsumer(ctx context.Context, b *testing.B, names []string, cfg Config) chan struct{} {
	b.Helper()
	run, _, _ := strings.Cut(names[0], ".")
	delivered := make(chan struct{}, 100)
	cfg.Group, cfg.Replica, cfg.Routes = run, "one", []Route{{Topic: run + ".{user}", Kind: PerUser}}
	c, err := New(cfg, signalSink{delivered})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			b.Error(err)
		}
	})
	var joined sync.WaitGroup
	for i := range names {
		joined.Go(func() {
			if _, err := c.Join(ctx, strconv.Itoa(i)); err != nil {
				b.Error(err)
			}
		})
	}
	joined.Wait()
	return delivered
}

// wakeReader runs a kafka.Reader for each topic.
func wakeReader(ctx context.Context, b *testing.B, address string, names []string) chan struct{} {
	b.Helper()
	delivered := make(chan struct{}, 100)
	ctx, cancel := context.WithCancel(ctx)
	var reading sync.WaitGroup
	for _, name := range names {
		reading.Go(func() {
			r := kafka.NewReader(kafka.ReaderConfig{Brokers: []string{address}, Topic: name, MinBytes: 1, MaxBytes: 1 << 20, MaxWait: fetchMaxWait})
			defer r.Close() //nolint:errcheck // the benchmark has read its records
			first := true
			for {
				m, err := r.ReadMessage(ctx)
				if err != nil {
					return
				}
				if !first || m.Offset+1 == m.HighWaterMark { // skips the records that the topic held before
					first = false
					select {
					case delivered <- struct{}{}:
					case <-ctx.Done():
					}
				}
			}
		})
	}
	b.Cleanup(func() {
		cancel()
		reading.Wait()
	})
	for range names {
		await(ctx, b, delivered)
	}
	return delivered
}

// wakeFranz runs one franz-go client that reads all topics.
func wakeFranz(ctx context.Context, b *testing.B, address string, names []string) chan struct{} {
	b.Helper()
	from := make(map[string]map[int32]kgo.Offset)
	for _, name := range names {
		from[name] = map[int32]kgo.Offset{0: kgo.NewOffset().Relative(-1).AtEnd()}
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(address), kgo.ConsumePartitions(from), kgo.FetchMaxWait(fetchMaxWait))
	if err != nil {
		b.Fatal(err)
	}
	delivered := make(chan struct{}, 100)
	ended := make(chan struct{})
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			for range client.PollFetches(ctx).NumRecords() {
				select {
				case delivered <- struct{}{}:
				case <-ctx.Done():
				}
			}
		}
	}()
	b.Cleanup(func() {
		cancel()
		client.Close()
		<-ended
	})
	for range names { // each topic delivers its last record, so the client reads all of them
		await(ctx, b, delivered)
	}
	return delivered
}
