package consumer

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	runtimemetrics "runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"herald/consumer/broker"
)

// brokerVariable makes TestBrokerProcess a broker.
const brokerVariable = "HERALD_TEST_BROKER_PROCESS"

// TestBrokerProcess is no test but the process of the broker that the benchmarks read from, so that
// the broker's work is not counted as the reader's.
func TestBrokerProcess(t *testing.T) {
	spec := os.Getenv(brokerVariable)
	if spec == "" {
		t.Skip("this is the broker of the benchmarks")
	}
	var records, codec int
	if _, err := fmt.Sscan(spec, &records, &codec); err != nil {
		t.Fatal(err)
	}
	compression := compressions[codec]
	opts := []kfake.Opt{kfake.NumBrokers(1), kfake.AllowAutoTopicCreation(), kfake.DefaultNumPartitions(1)}
	if records > 0 {
		opts = append(opts, kfake.SyntheticFetch(kfake.SyntheticBatch{Records: records, RecordBytes: 100, RandomFrac: 0.5, Compression: compression}))
	}
	broker, err := kfake.NewCluster(opts...)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = fmt.Fprintln(os.Stdout, "broker", broker.ListenAddrs()[0])
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n') // until the parent ends
	os.Exit(0)
}

// brokerProcess starts a broker whose topics hold endless batches of so many records, or with 0
// records what is produced to them.
func brokerProcess(tb testing.TB, records, codec int) (address string, pid int) {
	tb.Helper()
	command := exec.CommandContext(tb.Context(), os.Args[0], "-test.run=^TestBrokerProcess$")
	command.Env = append(os.Environ(), fmt.Sprintf("%s=%d %d", brokerVariable, records, codec))
	in, err := command.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	out, err := command.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := command.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = in.Close()
		_ = command.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	address, ok := strings.CutPrefix(strings.TrimSpace(line), "broker ")
	if err != nil || !ok {
		tb.Fatalf("the broker said %q: %v", line, err)
	}
	return address, command.Process.Pid
}

// countSink counts records and says when there have been enough.
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

// cpu returns the CPU time this process has used.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// cpuOf returns the CPU time that a process has used, in ticks of 10 ms; none of process 0.
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

// peakHeap watches the heap until the function that it returns is called, which says how large it
// was at most, in MB.
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

// benchTopic is what drainers read.
var benchTopic = "t"

// filled are the topics that fillBench has filled, by what it was asked for.
var filled = make(map[string]string)

// fillBench has benchTopic be one with b.N records in batches of about so many, on a broker that is
// there anyway.
func fillBench(b *testing.B, address string, records, codec int) {
	b.Helper()
	asked := fmt.Sprint(b.N, records, codec)
	if topic, ok := filled[asked]; ok {
		benchTopic = topic
		return
	}
	benchTopic = createTopics(b, address, 1)[0]
	linger, buffered := 5*time.Millisecond, 20_000
	if records == 1 { // the next is taken when the one before is written
		linger, buffered = 0, 1
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(address), kgo.DefaultProduceTopic(benchTopic), kgo.ProducerLinger(linger), kgo.MaxBufferedRecords(buffered),
		kgo.ProducerBatchMaxBytes(int32(min(1_000_000, max(512, 70+records*112)))), kgo.ProducerBatchCompression(compressions[codec]))
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close()
	value := make([]byte, 100)
	for range b.N {
		half := value[50:] // does not compress
		for i := range half {
			half[i] = byte(rand.IntN(256))
		}
		client.Produce(b.Context(), &kgo.Record{Value: slices.Clone(value)}, func(_ *kgo.Record, err error) {
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

// benchBound is what a reader may take; one that takes longer is reported with that.
const benchBound = 3 * time.Minute

// bounded fails the benchmark with err, if there is one, and ends it if the time is up.
func bounded(ctx context.Context, b *testing.B, err error) {
	b.Helper()
	if ctx.Err() != nil {
		_, _ = fmt.Fprintf(os.Stdout, "%s\tnot done in %v\n", b.Name(), benchBound) // the reason of a skip is not printed
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
	{"kafka.Reader", drainReader},
	{"kafka.Client", drainClient},
	{"franz-go", drainFranz},
}

func drainHerald(ctx context.Context, b *testing.B, address string) {
	b.Helper()
	sink := &countSink{enough: make(chan struct{})}
	sink.left.Store(int64(b.N))
	c, err := New(Config{Brokers: []string{address}, Group: "bench", Replica: "one", Routes: []Route{{Topic: benchTopic}}}, sink)
	if err != nil {
		b.Fatal(err)
	}
	c.topics.states[benchTopic].settleLocked(true) // as if it had been known and missing: it is read from its start
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
	defer r.Close() //nolint:errcheck // what was wanted has been read
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

// BenchmarkDrain reads a partition that is far behind, with batches of several sizes and codecs,
// beside other readers. One operation is one record; cpu-ns/op is the CPU of the reading process, and
// broker-ns/op that of the in-process broker's.
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
						for begun := time.Now(); time.Since(begun) < 5*time.Second; { // the broker compiles its code, whoever comes first
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

// seed has the broker create the topic.
func seed(b *testing.B, address string) {
	b.Helper()
	p := NewProducer([]string{address}, nil, nil)
	defer p.Close()
	if _, err := p.Produce(b.Context(), Message{Topic: "t", Value: []byte("x")}); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkMissing asks about the topics of one turn, none of which exists, and opens and closes a
// stream of a user without a topic while others wait.
func BenchmarkMissing(b *testing.B) {
	address := os.Getenv("HERALD_BENCH_BROKER")
	if address == "" {
		broker, err := kfake.NewCluster(kfake.NumBrokers(1))
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(broker.Close)
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
