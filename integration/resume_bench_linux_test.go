package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// resumeServers are the servers that the benchmarks of resumes start. Herald and Centrifugo read the same records
// from Kafka. Centrifugo keeps as many records of each channel in memory as a client misses, and recovers by its
// unidirectional SSE.
var resumeServers = []struct {
	name  string
	start func(b *testing.B, broker, topic string, missed int) *benchServer
}{
	{"herald", func(b *testing.B, broker, topic string, _ int) *benchServer {
		b.Helper()
		return startBenchHerald(b, broker, topic)
	}},
	{"centrifugo", startBenchCentrifugo},
}

// BenchmarkResumeStorm cuts 5,000 clients, writes missed records for each, waits until the server has read them, and
// lets the clients come back, 64 at a time: another client connects when one of them has received its first event,
// Herald's checkpoint or Centrifugo's answer with the records. One operation is one storm, from the first request to
// the last event. Each client must get exactly its records, once and in order. HERALD_BENCH_BROKER names a broker and
// HERALD_BENCH_CENTRIFUGO the program of Centrifugo.
//
// cpu-us/client is the CPU time of the server in the storm, and client-us/client is the time of the clients, which
// share the machine. peak-MB is the largest resident set that the server has had. The benchmark also reports what
// Herald's replays read from Kafka, their passes over logs, and the records that they decoded, for each storm.
func BenchmarkResumeStorm(b *testing.B) {
	broker := benchBroker(b)
	for _, missed := range []int{2, 20, 150} {
		for _, server := range resumeServers {
			b.Run(fmt.Sprintf("missed=%d/%s", missed, server.name), func(b *testing.B) {
				topic, client := resumeTopic(b, broker)
				s := newStorm(b, server.start(b, broker, topic, missed), client)
				var total stormCost
				for b.Loop() {
					total.add(s.run(b, missed, 0))
				}
				s.settle(b)
				total.report(b, s)
			})
		}
	}
}

// BenchmarkResumeBesideOthers runs the storm of 20 missed records for each client twice: with as many records for
// other users, who have no stream, in between, and with ten times as many. Its ratio is the server's CPU time in the
// second storm to the time in the first.
func BenchmarkResumeBesideOthers(b *testing.B) {
	const missed = 20
	broker := benchBroker(b)
	for _, server := range resumeServers {
		b.Run(server.name, func(b *testing.B) {
			topic, client := resumeTopic(b, broker)
			var s *resumeStorm
			if server.name == "herald" { // the cache holds both storms' records
				s = newStorm(b, startBenchHerald(b, broker, topic, "--replay-cache-bytes=536870912"), client)
			} else {
				s = newStorm(b, server.start(b, broker, topic, missed), client)
			}
			var one, ten stormCost
			for b.Loop() {
				one.add(s.run(b, missed, 1))
				ten.add(s.run(b, missed, 10))
			}
			s.settle(b)
			b.ReportMetric(one.cpuPerClient(), "cpu-us/client-beside-1x")
			b.ReportMetric(ten.cpuPerClient(), "cpu-us/client-beside-10x")
			b.ReportMetric(ten.cpuPerClient()/one.cpuPerClient(), "ratio")
			b.ReportMetric(float64(s.clients.server.peakMemory(b))/1e6, "peak-MB")
		})
	}
}

// BenchmarkResumeLatency measures how long a client waits for its first missed record while 10,000 records a second
// are written for other users. The client misses one to three records, and comes back up to 10 ms after the server
// has read them. One operation is one resume; p50-ms and p99-ms are the times from the start of the connection to the
// first record. passes/op is how many passes over logs Herald made for a resume; in the tail it makes none.
func BenchmarkResumeLatency(b *testing.B) {
	broker := benchBroker(b)
	for _, server := range resumeServers {
		b.Run(server.name, func(b *testing.B) {
			topic, others := resumeTopic(b, broker)
			own, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.DefaultProduceTopic(topic), kgo.ProducerLinger(0))
			if err != nil {
				b.Fatal(err)
			}
			defer own.Close()
			s := newStormOf(b, server.start(b, broker, topic, 100), own, 0, 0)
			client, witness := s.clients.clients[0], s.clients.clients[1]
			s.open(b)
			ctx, stop := context.WithCancel(b.Context())
			written := make(chan error, 1)
			go func() { written <- writeSteadily(ctx, others, 10_000) }()
			var waits []time.Duration
			before := costNow(b, s.clients.server)
			for b.Loop() {
				b.StopTimer()
				s.clients.cut(client)
				s.writeTo(b, client, witness)
				time.Sleep(rand.N(10 * time.Millisecond))
				b.StartTimer()
				begin := time.Now()
				if err := s.clients.resume(1, client); err != nil {
					b.Fatal(err)
				}
				waits = append(waits, client.first.Sub(begin))
			}
			stop()
			if err := <-written; err != nil {
				b.Fatal(err)
			}
			slices.Sort(waits)
			for _, percent := range []int{50, 99} {
				b.ReportMetric(waits[len(waits)*percent/100].Seconds()*1000, fmt.Sprintf("p%d-ms", percent))
			}
			if server.name == "herald" {
				b.ReportMetric(costNow(b, s.clients.server).minus(before).passes/float64(len(waits)), "passes/op")
			}
		})
	}
}
