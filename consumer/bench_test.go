package consumer

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	runtimemetrics "runtime/metrics"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kgo"

	"herald/consumer/format"
)

// countSink is a Sink that counts records and closes enough when the last expected record arrives.
type countSink struct {
	left   atomic.Int64
	enough chan struct{}
}

func (s *countSink) Begin(Partition, [16]byte, int64) {}
func (s *countSink) Gap(Partition, Gap)               {}
func (s *countSink) End(Partition)                    {}

func (s *countSink) Deliver(_ Partition, records []Record, _ int64) {
	n := int64(len(records))
	if left := s.left.Add(-n); left <= 0 && left+n > 0 {
		close(s.enough)
	}
}

// cpu returns the CPU time that this process has used.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// cpuOf returns the CPU time that a process has used, in steps of 10 ms. It returns 0 for the process 0.
func cpuOf(b *testing.B, pid int) time.Duration {
	b.Helper()
	if pid == 0 {
		return 0
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	var ticks time.Duration
	for _, field := range strings.Fields(rest)[11:13] { // utime, stime
		n, err := strconv.Atoi(field)
		if err != nil {
			b.Fatal(err)
		}
		ticks += time.Duration(n)
	}
	return ticks * 10 * time.Millisecond
}

// peakHeap samples the size of the heap until its caller calls the function it returns. That function
// returns the largest size in MB.
func peakHeap(tb testing.TB) func() float64 {
	tb.Helper()
	runtime.GC()
	stop, peak := make(chan struct{}), make(chan uint64)
	go func() {
		sample := []runtimemetrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
		most := uint64(0)
		ticker := time.NewTicker(2 * time.Millisecond)
		defer ticker.Stop()
		for {
			runtimemetrics.Read(sample)
			most = max(most, sample[0].Value.Uint64())
			select {
			case <-ticker.C:
			case <-stop:
				peak <- most
				return
			}
		}
	}()
	return func() float64 {
		close(stop)
		return float64(<-peak) / 1e6
	}
}

// benchTopic is the topic that drainers read.
var benchTopic = "t"

// filled holds the topics that fillBench has filled, by number of records, batch size and codec.
var filled = make(map[string]string)

// fillBench sets benchTopic to a topic with b.N records, in batches of about this number of records, on a
// broker that runs already. It fills each such topic once.
func fillBench(b *testing.B, address string, records, codec int) {
	b.Helper()
	asked := fmt.Sprint(b.N, records, codec)
	if topic, ok := filled[asked]; ok {
		benchTopic = topic
		return
	}
	benchTopic = createTopics(b, address, 1)[0]
	linger, buffered := 5*time.Millisecond, 20_000
	if records == 1 { // one record a batch: the client takes the next record when the last record is written
		linger, buffered = 0, 1
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(address), kgo.DefaultProduceTopic(benchTopic), kgo.ProducerLinger(linger), kgo.MaxBufferedRecords(buffered),
		kgo.ProducerBatchMaxBytes(int32(min(1_000_000, max(512, 70+records*112)))), kgo.ProducerBatchCompression(compressions[codec]))
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close()
	for i := range b.N {
		key, value := benchRecord(i)
		client.Produce(b.Context(), &kgo.Record{Key: key, Value: value}, func(_ *kgo.Record, err error) {
			if err != nil {
				b.Error(err)
			}
		})
	}
	if err := client.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
	filled[asked] = benchTopic
}

var compressions = map[int]kgo.CompressionCodec{0: kgo.NoCompression(), 1: kgo.GzipCompression(), 2: kgo.SnappyCompression(), 3: kgo.Lz4Compression(), 4: kgo.ZstdCompression()}

// benchBound is the time that a reader may take. A slower reader is reported as not done, and its benchmark
// is skipped.
const benchBound = 3 * time.Minute

// bounded fails the benchmark with err, unless err is nil, and skips it if its time is up.
func bounded(ctx context.Context, b *testing.B, err error) {
	b.Helper()
	if ctx.Err() != nil {
		_, _ = fmt.Fprintf(os.Stdout, "%s\tnot done in %v\n", b.Name(), benchBound) // go test does not print the reason of a skip
		b.SkipNow()
	}
	if err != nil {
		b.Fatal(err)
	}
}

// drainers read b.N records of [benchTopic] from its start.
var drainers = []struct {
	name  string
	drain func(ctx context.Context, b *testing.B, address string)
}{
	{"herald", drainHerald},
	{"herald,format=registry", drainHeraldFormat},
	{"kafka.Reader", drainReader},
	{"kafka.Client", drainClient},
	{"franz-go", drainFranz},
}

// benchSchemas is a registry that has one schema under all ids.
type benchSchemas struct{}

func (benchSchemas) Get(context.Context, string) ([]byte, error) {
	return []byte(`{"schema":"\"bytes\""}`), nil
}

func drainHerald(ctx context.Context, b *testing.B, address string) {
	b.Helper()
	drainRoute(ctx, b, address, Route{})
}

func drainHeraldFormat(ctx context.Context, b *testing.B, address string) {
	b.Helper()
	drainRoute(ctx, b, address, Route{Format: format.KindRegistry})
}

// drainRoute reads the topic with the options of a route. No user has a stream, so a format decodes no record.
func drainRoute(ctx context.Context, b *testing.B, address string, route Route) {
	b.Helper()
	route.Topic = benchTopic
	schemas := format.NewRegistry(benchSchemas{}, slog.New(slog.DiscardHandler), nil)
	defer schemas.Close()
	sink := &countSink{enough: make(chan struct{})}
	sink.left.Store(int64(b.N))
	c, err := New(Config{Brokers: []string{address}, Group: "bench", Replica: "one", Routes: []Route{route}, Schemas: schemas}, sink)
	if err != nil {
		b.Fatal(err)
	}
	c.topics.states[benchTopic].settleLocked(true) // as if the topic had been missing before, so that the consumer reads it from its start
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	select {
	case <-sink.enough:
	case <-ctx.Done():
	}
	b.StopTimer()
	cancel()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
}

func drainReader(ctx context.Context, b *testing.B, address string) {
	b.Helper()
	r := kafka.NewReader(kafka.ReaderConfig{Brokers: []string{address}, Topic: benchTopic, MinBytes: 1, MaxBytes: 8 << 20})
	defer r.Close() //nolint:errcheck // all records have been read
	for range b.N {
		if _, err := r.ReadMessage(ctx); err != nil {
			bounded(ctx, b, err)
		}
	}
	b.StopTimer()
}

func drainClient(ctx context.Context, b *testing.B, address string) {
	b.Helper()
	transport := new(kafka.Transport)
	defer transport.CloseIdleConnections()
	client := &kafka.Client{Addr: kafka.TCP(address), Transport: transport}
	for read, offset := 0, int64(0); read < b.N; {
		res, err := client.Fetch(ctx, &kafka.FetchRequest{Topic: benchTopic, Offset: offset, MinBytes: 1, MaxBytes: 8 << 20, MaxWait: time.Second})
		bounded(ctx, b, err)
		for {
			rec, err := res.Records.ReadRecord()
			if err != nil {
				break
			}
			read++
			offset = rec.Offset + 1
			if rec.Key != nil {
				_ = rec.Key.Close()
			}
			if rec.Value != nil {
				_ = rec.Value.Close()
			}
		}
	}
}

func drainFranz(ctx context.Context, b *testing.B, address string) {
	b.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(address), kgo.FetchMaxBytes(8<<20), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{benchTopic: {0: kgo.NewOffset().AtStart()}}))
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close()
	for read := 0; read < b.N; {
		fetches := client.PollFetches(ctx)
		bounded(ctx, b, fetches.Err())
		read += fetches.NumRecords()
	}
	b.StopTimer()
}

// BenchmarkDrain reads a partition with a long backlog, in batches of several sizes and codecs, with Herald
// (also with a format, of which no record is decoded) and with other readers. One operation is one record. cpu-ns/op is the CPU time of the reading process,
// and broker-ns/op is the CPU time of the broker that brokerProcess runs.
func BenchmarkDrain(b *testing.B) {
	for _, records := range []int{1, 10, 1000} {
		for codec, name := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
			for _, d := range drainers {
				b.Run(fmt.Sprintf("batch=%d/codec=%s/%s", records, name, d.name), func(b *testing.B) {
					address, pid := os.Getenv("HERALD_BENCH_BROKER"), 0
					if address == "" {
						address, pid = brokerProcess(b, records, codec)
						seed(b, address)
					} else {
						fillBench(b, address, records, codec)
						for begun := time.Now(); time.Since(begun) < 5*time.Second; { // the JVM of the broker compiles its code first, so that all readers meet the same broker
							drainFranz(b.Context(), b, address)
						}
					}
					b.ReportAllocs()
					b.ResetTimer()
					b.StartTimer()
					heap := peakHeap(b)
					before, brokers := cpu(b), cpuOf(b, pid)
					ctx, cancel := context.WithTimeout(b.Context(), benchBound)
					defer cancel()
					d.drain(ctx, b, address)
					bounded(ctx, b, nil)
					b.ReportMetric(heap(), "heap-MB")
					b.ReportMetric(float64(cpu(b)-before)/float64(b.N), "cpu-ns/op")
					if pid != 0 {
						b.ReportMetric(float64(cpuOf(b, pid)-brokers)/float64(b.N), "broker-ns/op")
					}
				})
			}
		}
	}
}

// seed writes a record, so that the broker creates the topic.
func seed(b *testing.B, address string) {
	b.Helper()
	p := NewProducer([]string{address}, nil, nil)
	defer p.Close()
	if _, err := p.Produce(b.Context(), Message{Topic: "t", Value: []byte("x")}); err != nil {
		b.Fatal(err)
	}
}
