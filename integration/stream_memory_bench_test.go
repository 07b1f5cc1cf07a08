package integration

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	memoryStreams   = 5000
	memoryFirst     = 250             // streams that are opened and closed before the measurement
	memoryMultiplex = 250             // streams of a connection that carries many; net/http allows as many by default
	memoryHeartbeat = 5 * time.Second // between heartbeats, and between HTTP/2's pings
	memoryTopic     = "announcements"
)

// memoryWay is a way in which a client can open streams.
type memoryWay struct {
	name    string
	tls     *tls.Config // nil: without TLS
	open    func(*memoryClient) error
	streams int // of a connection
}

// BenchmarkStreamMemory measures the memory that one stream takes in the server's process, for each way in which a
// client can open it. The clients send the headers of a browser. Each stream gets an event and some heartbeats
// before the measurement, so that its buffers have been in use.
//
// heap-KiB/stream and stack-KiB/stream are the live heap and the stacks of goroutines. RSS-KiB/stream is resident
// memory while the streams are idle, and max-RSS-KiB/stream is resident memory with as much garbage as Go lets
// gather.
func BenchmarkStreamMemory(b *testing.B) {
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(4, "notifications"), kfake.SeedTopics(1, memoryTopic))
	if err != nil {
		b.Fatal(err)
	}
	defer broker.Close()
	authority, err := newAuthority()
	if err != nil {
		b.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority.text)
	secure := func(protocol string) *tls.Config {
		return &tls.Config{RootCAs: roots, ServerName: "localhost", NextProtos: []string{protocol}, MinVersion: tls.VersionTLS12}
	}
	for _, way := range []memoryWay{
		{"HTTP1", nil, (*memoryClient).openHTTP1, 1},
		{"HTTP1-TLS", secure("http/1.1"), (*memoryClient).openHTTP1, 1},
		{"HTTP2-TLS", secure("h2"), (*memoryClient).openHTTP2, 1},
		{"HTTP2-TLS-multiplexed", secure("h2"), (*memoryClient).openHTTP2, memoryMultiplex},
		{"HTTP2", nil, (*memoryClient).openHTTP2, 1},
		{"HTTP2-multiplexed", nil, (*memoryClient).openHTTP2, memoryMultiplex},
	} {
		b.Run(way.name, func(b *testing.B) {
			for b.Loop() {
				way.measure(b, broker.ListenAddrs()[0], authority)
			}
			b.ReportMetric(0, "ns/op") // the time says nothing
		})
	}
}

// measure opens streams of a new server in this way and reports their memory.
func (way memoryWay) measure(b *testing.B, broker string, authority authority) {
	b.Helper()
	ctx, cancel := context.WithCancel(b.Context())
	s := startMemoryServer(ctx, b, broker, authority, way.tls != nil)
	defer func() {
		cancel()
		_ = s.command.Wait()
	}()
	openMemoryClients(ctx, b, s.public, way, memoryFirst).close() // loads code, and fills pools
	before := s.collected(b)
	clients := openMemoryClients(ctx, b, s.public, way, memoryStreams)
	defer clients.close()
	announce(b, broker)
	clients.await(b, "the event", &clients.events)
	time.Sleep(2*memoryHeartbeat + time.Second)
	idle := s.sample(b)
	after := s.collected(b)
	clients.check(b)
	for unit, grown := range map[string]float64{
		"RSS-KiB/stream": idle.resident - before.resident, "max-RSS-KiB/stream": after.resident - before.resident,
		"heap-KiB/stream": after.heap - before.heap, "stack-KiB/stream": after.stacks - before.stacks,
	} {
		b.ReportMetric(grown/1024/memoryStreams, unit)
	}
	b.ReportMetric((after.goroutines-before.goroutines)/memoryStreams, "goroutines/stream")
}

// announce writes one record to the broadcast topic.
func announce(b *testing.B, broker string) {
	b.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(broker))
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close()
	if err := client.ProduceSync(b.Context(), &kgo.Record{Topic: memoryTopic, Value: []byte(`{"text":"` + strings.Repeat("x", 200) + `"}`)}).FirstErr(); err != nil {
		b.Fatal(err)
	}
}

// memoryServer is a process of Herald.
type memoryServer struct {
	public, admin string
	command       *exec.Cmd
}

// startMemoryServer starts a process and waits until it is ready. The process ends with ctx.
func startMemoryServer(ctx context.Context, b *testing.B, broker string, authority authority, secure bool) *memoryServer {
	b.Helper()
	s := &memoryServer{public: freeAddress(b), admin: freeAddress(b)}
	args := []string{
		"serve", "--insecure-no-auth", "--brokers=" + broker, "--topic=notifications", "--topic=" + memoryTopic + ",kind=broadcast",
		"--group=memory-" + rand.Text(), "--replica=one", "--listen=" + s.public, "--admin-listen=" + s.admin, "--heartbeat=" + memoryHeartbeat.String(),
	}
	if secure {
		certificate, key, err := authority.issue("localhost")
		if err != nil {
			b.Fatal(err)
		}
		for flag, text := range map[string][]byte{"--tls-cert-file=": certificate, "--tls-key-file=": key} {
			name := filepath.Join(b.TempDir(), "pem")
			if err := os.WriteFile(name, text, 0o600); err != nil {
				b.Fatal(err)
			}
			args = append(args, flag+name)
		}
	}
	s.command = exec.CommandContext(ctx, heraldBinary(b), args...)
	s.command.Env, s.command.Stderr = memoryEnvironment(), b.Output()
	if err := s.command.Start(); err != nil {
		b.Fatal(err)
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		if a, err := send(b, http.MethodGet, "http://"+s.admin+"/readyz", ""); err == nil && a.status == http.StatusOK {
			return s
		}
		if time.Now().After(deadline) {
			b.Fatal("the server is not ready")
		}
	}
}

// memoryEnvironment returns the environment of the server: the variable GOGC of the benchmark, if it is set.
func memoryEnvironment() []string {
	if percent, ok := os.LookupEnv("GOGC"); ok {
		return []string{"GOGC=" + percent}
	}
	return []string{}
}

// memorySample is what a process takes, in bytes.
type memorySample struct{ resident, heap, stacks, goroutines, collections float64 }

// collected returns what the process takes after six runs of the garbage collector, each of which may shrink a
// goroutine's stack by half. The scrapes make the garbage that lets it run. heap is the least of all scrapes: it
// comes from the scrape that was the soonest after a run.
func (s *memoryServer) collected(b *testing.B) memorySample {
	b.Helper()
	const runs = 6
	first := s.sample(b)
	heap := first.heap
	for {
		got := s.sample(b)
		heap = min(heap, got.heap)
		if got.collections >= first.collections+runs {
			got.heap = heap
			return got
		}
	}
}

// sample reads the metrics of the process.
func (s *memoryServer) sample(b *testing.B) memorySample {
	b.Helper()
	a, err := send(b, http.MethodGet, "http://"+s.admin+"/metrics", "")
	if err != nil {
		b.Fatal(err)
	}
	number := make(map[string]float64)
	for lines := bufio.NewScanner(strings.NewReader(a.body)); lines.Scan(); {
		if name, text, ok := strings.Cut(lines.Text(), " "); ok && name != "#" {
			number[name], _ = strconv.ParseFloat(text, 64)
		}
	}
	got := memorySample{
		number["process_resident_memory_bytes"], number["go_memstats_heap_alloc_bytes"], number["go_memstats_stack_inuse_bytes"],
		number["go_goroutines"], number["go_gc_duration_seconds_count"],
	}
	if got.resident == 0 || got.heap == 0 || got.stacks == 0 {
		b.Fatalf("/metrics lacks figures: %+v", got)
	}
	return got
}
