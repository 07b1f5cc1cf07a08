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
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
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
func brokerProcess(b *testing.B, records, codec int) (address string, pid int) {
	b.Helper()
	command := exec.CommandContext(b.Context(), os.Args[0], "-test.run=^TestBrokerProcess$")
	command.Env = append(os.Environ(), fmt.Sprintf("%s=%d %d", brokerVariable, records, codec))
	in, err := command.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := command.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := command.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = in.Close()
		_ = command.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	address, ok := strings.CutPrefix(strings.TrimSpace(line), "broker ")
	if err != nil || !ok {
		b.Fatalf("the broker said %q: %v", line, err)
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

// peakHeap watches the heap until the function that it returns is called, which says how large it
// was at most, in MB.
func peakHeap(b *testing.B) func() float64 {
	b.Helper()
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

// fillBench writes b.N records in batches of about so many to a new topic of a broker that is there
// anyway.
func fillBench(b *testing.B, address string, records, codec int) {
	b.Helper()
	benchTopic = createTopics(b, address, 1)[0]
	client, err := kgo.NewClient(kgo.SeedBrokers(address), kgo.DefaultProduceTopic(benchTopic), kgo.ProducerLinger(5*time.Millisecond),
		kgo.ProducerBatchMaxBytes(int32(min(1_000_000, 70+records*112))), kgo.MaxBufferedRecords(20_000), kgo.ProducerBatchCompression(compressions[codec]))
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
}

var compressions = map[int]kgo.CompressionCodec{0: kgo.NoCompression(), 1: kgo.GzipCompression(), 2: kgo.SnappyCompression(), 3: kgo.Lz4Compression(), 4: kgo.ZstdCompression()}

// drainers read b.N records of [benchTopic] from its start.
var drainers = []struct {
	name  string
	drain func(b *testing.B, address string)
}{
	{"herald", drainHerald},
	{"kafka.Reader", drainReader},
	{"kafka.Client", drainClient},
	{"franz-go", drainFranz},
}

func drainHerald(b *testing.B, address string) {
	b.Helper()
	sink := &countSink{enough: make(chan struct{})}
	sink.left.Store(int64(b.N))
	c, err := New(Config{Brokers: []string{address}, Group: "bench", Replica: "one", Routes: []Route{{Topic: benchTopic}}}, sink)
	if err != nil {
		b.Fatal(err)
	}
	c.topics[benchTopic].settle(true) // as if it had been known and missing: it is read from its start
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	<-sink.enough
	b.StopTimer()
	cancel()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
}

func drainReader(b *testing.B, address string) {
	b.Helper()
	r := kafka.NewReader(kafka.ReaderConfig{Brokers: []string{address}, Topic: benchTopic, MinBytes: 1, MaxBytes: 8 << 20})
	for range b.N {
		if _, err := r.ReadMessage(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	_ = r.Close()
}

func drainClient(b *testing.B, address string) {
	b.Helper()
	client := &kafka.Client{Addr: kafka.TCP(address)}
	for read, offset := 0, int64(0); read < b.N; {
		res, err := client.Fetch(b.Context(), &kafka.FetchRequest{Topic: benchTopic, Offset: offset, MinBytes: 1, MaxBytes: 8 << 20, MaxWait: time.Second})
		if err != nil {
			b.Fatal(err)
		}
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

func drainFranz(b *testing.B, address string) {
	b.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(address), kgo.FetchMaxBytes(8<<20), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{benchTopic: {0: kgo.NewOffset().AtStart()}}))
	if err != nil {
		b.Fatal(err)
	}
	for read := 0; read < b.N; {
		fetches := client.PollFetches(b.Context())
		if err := fetches.Err(); err != nil {
			b.Fatal(err)
		}
		read += fetches.NumRecords()
	}
	b.StopTimer()
	client.Close()
}

// BenchmarkDrain reads a partition that is far behind, with batches of several sizes and codecs,
// beside other readers. One operation is one record; cpu-ns/op is the CPU of the reading process.
func BenchmarkDrain(b *testing.B) {
	for _, records := range []int{1, 10, 1000} {
		for codec, name := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
			for _, d := range drainers {
				b.Run(fmt.Sprintf("batch=%d/codec=%s/%s", records, name, d.name), func(b *testing.B) {
					address := os.Getenv("HERALD_BENCH_BROKER")
					if address == "" {
						address, _ = brokerProcess(b, records, codec)
						seed(b, address)
					} else {
						fillBench(b, address, records, codec)
					}
					b.ReportAllocs()
					b.ResetTimer()
					heap := peakHeap(b)
					before := cpu(b)
					d.drain(b, address)
					b.ReportMetric(heap(), "heap-MB")
					b.ReportMetric(float64(cpu(b)-before)/float64(b.N), "cpu-ns/op")
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

// BenchmarkWakeUp produces one record after the other to a random one of many topics, each read by
// a user of its own, and reports the time until it is delivered (produce request included) and the
// connections it takes. HERALD_BENCH_BROKER names a broker to run it on in place of the in-process
// one.
func BenchmarkWakeUp(b *testing.B) {
	for _, topics := range []int{1, 100, 1000, 5000} {
		for _, c := range []struct {
			name  string
			start func(b *testing.B, address string, names []string) (delivered chan struct{})
		}{{"herald", wakeHerald}, {"franz-go", wakeFranz}} {
			b.Run(fmt.Sprintf("topics=%d/%s", topics, c.name), func(b *testing.B) {
				address, pid := os.Getenv("HERALD_BENCH_BROKER"), 0
				if address == "" {
					address, pid = brokerProcess(b, 0, 0)
				}
				names := createTopics(b, address, topics)
				producer, err := kgo.NewClient(kgo.SeedBrokers(address), kgo.ProducerLinger(0), kgo.RecordPartitioner(kgo.ManualPartitioner()))
				if err != nil {
					b.Fatal(err)
				}
				defer producer.Close()
				produceTo := func(i int) {
					if err := producer.ProduceSync(b.Context(), &kgo.Record{Topic: names[i], Value: []byte("x")}).FirstErr(); err != nil {
						b.Fatal(err)
					}
				}
				for _, name := range names { // so that the producer knows where each is
					producer.Produce(b.Context(), &kgo.Record{Topic: name, Value: []byte("x")}, nil)
				}
				if err := producer.Flush(b.Context()); err != nil {
					b.Fatal(err)
				}
				before := sockets(b, pid)
				delivered := c.start(b, address, names)
				for range 20 { // the readers' sessions settle
					produceTo(rand.IntN(topics))
					<-delivered
				}
				times := make([]time.Duration, 0, b.N)
				for b.Loop() {
					begun := time.Now()
					produceTo(rand.IntN(topics))
					<-delivered
					times = append(times, time.Since(begun))
				}
				slices.Sort(times)
				b.ReportMetric(float64(times[len(times)/2].Microseconds())/1000, "p50-ms")
				b.ReportMetric(float64(times[len(times)*99/100].Microseconds())/1000, "p99-ms")
				if pid != 0 {
					b.ReportMetric(float64(sockets(b, pid)-before), "connections")
				}
			})
		}
	}
}

// sockets counts the open sockets of a process.
func sockets(b *testing.B, pid int) int {
	b.Helper()
	if pid == 0 {
		return 0
	}
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	files, err := os.ReadDir(dir)
	if err != nil {
		b.Fatal(err)
	}
	count := 0
	for _, f := range files {
		if to, err := os.Readlink(dir + "/" + f.Name()); err == nil && strings.HasPrefix(to, "socket:") {
			count++
		}
	}
	return count
}

// createTopics makes so many topics of one partition that no other run uses.
func createTopics(b *testing.B, address string, n int) []string {
	b.Helper()
	c := newCluster([]string{address}, nil, nil, time.Minute)
	defer c.close()
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
		res, err := c.request(b.Context(), anyBroker, req, nil)
		if err != nil {
			b.Fatal(err)
		}
		for _, t := range res.(*kmsg.CreateTopicsResponse).Topics {
			if err := kerr.ErrorForCode(t.ErrorCode); err != nil {
				b.Fatal(t.Topic, err)
			}
		}
	}
	return names
}

// signalSink signals each record.
type signalSink struct{ delivered chan struct{} }

func (s signalSink) Begin(Partition, [16]byte, int64) {}
func (s signalSink) Gap(Partition, Gap)               {}
func (s signalSink) End(Partition)                    {}

func (s signalSink) Deliver(_ Partition, records []Record, _ int64) {
	for range records {
		s.delivered <- struct{}{}
	}
}

func wakeHerald(b *testing.B, address string, names []string) chan struct{} {
	b.Helper()
	run, _, _ := strings.Cut(names[0], ".")
	delivered := make(chan struct{}, 100)
	c, err := New(Config{Brokers: []string{address}, Group: run, Replica: "one", Routes: []Route{{Topic: run + ".{user}", Kind: PerUser}}}, signalSink{delivered})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
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

func wakeFranz(b *testing.B, address string, names []string) chan struct{} {
	b.Helper()
	from := make(map[string]map[int32]kgo.Offset)
	for _, name := range names {
		from[name] = map[int32]kgo.Offset{0: kgo.NewOffset().AtEnd()}
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(address), kgo.ConsumePartitions(from), kgo.FetchMaxWait(fetchMaxWait))
	if err != nil {
		b.Fatal(err)
	}
	delivered := make(chan struct{}, 100)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			fetches := client.PollFetches(b.Context())
			if fetches.IsClientClosed() || b.Context().Err() != nil {
				return
			}
			for range fetches.NumRecords() {
				delivered <- struct{}{}
			}
		}
	}()
	b.Cleanup(func() {
		client.Close()
		<-ended
	})
	time.Sleep(3 * time.Second) // it does not say when it has found the ends
	return delivered
}
