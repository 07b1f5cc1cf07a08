package consumer

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
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
	c.topics[benchTopic].settle(true) // as if it had been known and missing: it is read from its start
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
					}
					b.ReportAllocs()
					b.ResetTimer()
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

// BenchmarkWakeUp produces one record after the other to a random one of many topics, each read by
// a user of its own, and reports the time until it is delivered (produce request included) and the
// connections it takes. HERALD_BENCH_BROKER names a broker to run it on in place of the in-process
// one. kafka.Client has no part: it fetches one partition at a time.
func BenchmarkWakeUp(b *testing.B) {
	for _, topics := range []int{1, 100, 1000, 5000} {
		var names []string // of the broker that is there anyway
		for _, w := range []struct {
			name  string
			start func(ctx context.Context, b *testing.B, address string, names []string) (delivered chan struct{})
		}{{"herald", wakeHerald}, {"kafka.Reader", wakeReader}, {"franz-go", wakeFranz}} {
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

// wake measures one reader.
func wake(ctx context.Context, b *testing.B, address string, names []string, start func() chan struct{}) {
	b.Helper()
	producer, err := kgo.NewClient(kgo.SeedBrokers(address), kgo.ProducerLinger(0), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		b.Fatal(err)
	}
	defer producer.Close()
	for _, name := range names { // so that the producer knows where each is
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
	time.Sleep(quietAfter + quietMaxWait) // the readers' sessions settle
	for range 20 {
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

// await waits for one record.
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
		table, err := os.ReadFile(file) //nolint:gosec // one of the two
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

func wakeHerald(ctx context.Context, b *testing.B, address string, names []string) chan struct{} {
	b.Helper()
	run, _, _ := strings.Cut(names[0], ".")
	delivered := make(chan struct{}, 100)
	c, err := New(Config{Brokers: []string{address}, Group: run, Replica: "one", Routes: []Route{{Topic: run + ".{user}", Kind: PerUser}}}, signalSink{delivered})
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

// wakeReader has a kafka.Reader for each topic.
func wakeReader(ctx context.Context, b *testing.B, address string, names []string) chan struct{} {
	b.Helper()
	delivered := make(chan struct{}, 100)
	ctx, cancel := context.WithCancel(ctx)
	var reading sync.WaitGroup
	for _, name := range names {
		reading.Go(func() {
			r := kafka.NewReader(kafka.ReaderConfig{Brokers: []string{address}, Topic: name, MinBytes: 1, MaxBytes: 1 << 20, MaxWait: fetchMaxWait})
			defer r.Close() //nolint:errcheck // what was wanted has been read
			first := true
			for {
				m, err := r.ReadMessage(ctx)
				if err != nil {
					return
				}
				if !first || m.Offset+1 == m.HighWaterMark { // else what was there before
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
	for range names { // the last record of each: all are being read
		await(ctx, b, delivered)
	}
	return delivered
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
		c := newCluster([]string{address}, nil, nil, time.Minute)
		defer c.close()
		var names []string
		for i := range turnTopics {
			names = append(names, fmt.Sprint("missing.", i))
		}
		for b.Loop() {
			if _, err := c.metadata(b.Context(), names, false); err != nil {
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
