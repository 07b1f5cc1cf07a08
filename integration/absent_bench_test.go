package integration

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// BenchmarkAbsent reads records of users who have no stream; a replica reads and discards such records. One
// operation is one record; cpu-ns/op is the CPU time of the server's process, which is stopped while the records
// are written. HERALD_BENCH_BROKER names a broker and HERALD_BENCH_CENTRIFUGO the program of Centrifugo.
func BenchmarkAbsent(b *testing.B) {
	broker := benchBroker(b)
	for _, server := range []struct {
		name  string
		start func(b *testing.B, topic string) *benchServer
	}{
		{"herald", func(b *testing.B, topic string) *benchServer { b.Helper(); return startBenchHerald(b, broker, topic) }},
		{"centrifugo", func(b *testing.B, topic string) *benchServer {
			b.Helper()
			return startBenchCentrifugo(b, broker, topic, 0)
		}},
	} {
		b.Run(server.name, func(b *testing.B) {
			topic, client := benchTopic(b, broker, kgo.ProducerLinger(5*time.Millisecond), kgo.ProducerBatchMaxBytes(150_000))
			s := absentServer{server.start(b, topic)}
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

type absentServer struct{ *benchServer }

// read writes the records while the server is stopped, and then measures how long the server reads them.
func (s *absentServer) read(b *testing.B, client *kgo.Client, records int) {
	b.Helper()
	b.StopTimer()
	had := s.settle(b)
	s.signal(b, syscall.SIGSTOP)
	writeAbsent(b, client, records)
	b.StartTimer()
	s.signal(b, syscall.SIGCONT)
	s.waitRead(b, had+records)
	b.StopTimer()
}

func (s *absentServer) signal(b *testing.B, signal os.Signal) {
	b.Helper()
	if err := s.process.Signal(signal); err != nil {
		b.Fatal(err)
	}
}

// writeAbsent writes records of 100 bytes, each to one of 100,000 users.
func writeAbsent(b *testing.B, client *kgo.Client, records int) {
	b.Helper()
	value := []byte(`{"text":"` + strings.Repeat("x", 89) + `"}`)
	for range records {
		user := fmt.Sprint("user", rand.IntN(100_000))
		client.Produce(b.Context(), &kgo.Record{Key: []byte(user), Value: value, Headers: []kgo.RecordHeader{{Key: channelHeader, Value: []byte(user)}}},
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
