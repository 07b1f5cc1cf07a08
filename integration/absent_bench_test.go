package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// BenchmarkAbsent reads records of users who have no stream; a replica reads and discards such records. One
// operation is one record; cpu-ns/op is the CPU time of the server's process, which is stopped while the records
// are written. HERALD_BENCH_BROKER names a broker and HERALD_BENCH_CENTRIFUGO the program of Centrifugo (go
// install github.com/centrifugal/centrifugo/v6@latest). Centrifugo reads the same records with the channel in a
// header, the cheapest way that its documentation has.
func BenchmarkAbsent(b *testing.B) {
	broker := os.Getenv("HERALD_BENCH_BROKER")
	if broker == "" {
		b.Skip("HERALD_BENCH_BROKER names no broker")
	}
	for _, server := range []struct {
		name, read string
		start      func(b *testing.B, broker, topic, address string) *exec.Cmd
	}{
		{"herald", `(?m)^herald_kafka_records_total (\S+)`, heraldOfAbsent},
		{"centrifugo", `(?m)^centrifugo_consumers_messages_processed_total{[^}]*} (\S+)`, centrifugoOfAbsent},
	} {
		b.Run(server.name, func(b *testing.B) {
			topic := fmt.Sprintf("absent%d", time.Now().UnixNano())
			client, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.DefaultProduceTopic(topic), kgo.ProducerLinger(5*time.Millisecond), kgo.ProducerBatchMaxBytes(150_000))
			if err != nil {
				b.Fatal(err)
			}
			defer client.Close()
			if _, err := kadm.NewClient(client).CreateTopic(b.Context(), 4, 1, nil, topic); err != nil {
				b.Fatal(err)
			}
			address := freeAddress(b)
			command := server.start(b, broker, topic, address)
			command.Env, command.Stderr = []string{"HOME=" + b.TempDir()}, b.Output()
			if err := command.Start(); err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() {
				_ = command.Process.Kill()
				_ = command.Wait()
			})
			s := absentServer{"http://" + address + "/metrics", regexp.MustCompile(server.read), command.Process}
			for s.count(b) == 0 { // until the server reads
				writeAbsent(b, client, 1)
				time.Sleep(100 * time.Millisecond)
			}
			s.read(b, client, 50_000) // a warm-up: caches are filled, buffers have grown
			before := s.cpu(b)
			b.ResetTimer()
			s.read(b, client, b.N)
			b.ReportMetric(float64(s.cpu(b)-before)/float64(b.N), "cpu-ns/op")
		})
	}
}

// absentServer is a process with a metric that says how many records it has read.
type absentServer struct {
	metrics string
	records *regexp.Regexp
	process *os.Process
}

// read writes the records while the server is stopped, and then measures how long the server reads them.
func (s *absentServer) read(b *testing.B, client *kgo.Client, records int) {
	b.Helper()
	b.StopTimer()
	had := s.count(b)
	for settled := -1; settled != had; had = s.count(b) {
		settled = had
		time.Sleep(200 * time.Millisecond)
	}
	s.signal(b, syscall.SIGSTOP)
	writeAbsent(b, client, records)
	b.StartTimer()
	s.signal(b, syscall.SIGCONT)
	for deadline := time.Now().Add(5 * time.Minute); s.count(b) < had+records; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.Fatalf("%d of %d records were read in five minutes", s.count(b)-had, records)
		}
	}
	b.StopTimer()
}

func (s *absentServer) signal(b *testing.B, signal os.Signal) {
	b.Helper()
	if err := s.process.Signal(signal); err != nil {
		b.Fatal(err)
	}
}

// count returns how many records the server has read, or 0 while the server does not answer yet.
func (s *absentServer) count(b *testing.B) int {
	b.Helper()
	a, err := send(b, http.MethodGet, s.metrics, "")
	if err != nil {
		return 0
	}
	found := s.records.FindStringSubmatch(a.body)
	if found == nil {
		return 0
	}
	count, err := strconv.ParseFloat(found[1], 64)
	if err != nil {
		b.Fatal(err)
	}
	return int(count)
}

// cpu returns the CPU time that the server has used. The kernel counts it in ticks of 10 ms.
func (s *absentServer) cpu(b *testing.B) time.Duration {
	b.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.process.Pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	ticks := 0
	for _, field := range strings.Fields(rest)[11:13] { // utime, stime
		n, err := strconv.Atoi(field)
		if err != nil {
			b.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// writeAbsent writes records of 100 bytes, each to one of 100,000 users.
func writeAbsent(b *testing.B, client *kgo.Client, records int) {
	b.Helper()
	value := []byte(`{"text":"` + strings.Repeat("x", 89) + `"}`)
	for range records {
		user := fmt.Sprint("user", rand.IntN(100_000))
		client.Produce(b.Context(), &kgo.Record{Key: []byte(user), Value: value, Headers: []kgo.RecordHeader{{Key: "centrifugo-channels", Value: []byte(user)}}},
			func(_ *kgo.Record, err error) {
				if err != nil {
					b.Error(err)
				}
			})
	}
	if err := client.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
}

func heraldOfAbsent(b *testing.B, broker, topic, address string) *exec.Cmd {
	b.Helper()
	return exec.CommandContext(context.WithoutCancel(b.Context()), heraldBinary(b), "serve", "--insecure-no-auth", "--brokers="+broker, "--topic="+topic,
		"--group="+topic, "--replica=one", "--listen="+freeAddress(b), "--admin-listen="+address)
}

func centrifugoOfAbsent(b *testing.B, broker, topic, address string) *exec.Cmd {
	b.Helper()
	program := os.Getenv("HERALD_BENCH_CENTRIFUGO")
	if program == "" {
		b.Skip("HERALD_BENCH_CENTRIFUGO names no program")
	}
	_, port, _ := net.SplitHostPort(address)
	config := filepath.Join(b.TempDir(), "config.json")
	text := fmt.Appendf(nil, `{
		"http_server": {"address": "127.0.0.1", "port": %q},
		"prometheus": {"enabled": true},
		"log": {"level": "error"},
		"consumers": [{"enabled": true, "name": "bench", "type": "kafka", "kafka": {
			"brokers": [%q], "topics": [%q], "consumer_group": %q,
			"publication_data_mode": {"enabled": true, "channels_header": "centrifugo-channels"}
		}}]
	}`, port, broker, topic, topic)
	if err := os.WriteFile(config, text, 0o600); err != nil { //nolint:gosec // in the benchmark's directory
		b.Fatal(err)
	}
	return exec.CommandContext(context.WithoutCancel(b.Context()), program, "--config="+config)
}
