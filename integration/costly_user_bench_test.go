package integration

import (
	"bufio"
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// BenchmarkCostlyUser measures what one user can make Herald do by asking for all records again and again: each
// stream begins with since=earliest, and ends when its replay of 2,000,000 records of others has ended. cores is the
// CPU time that the server's process uses each second, and MB/s is what the server reads from Kafka. The first half of a
// minute uses up what the user has saved, and is not measured. HERALD_BENCH_BROKER names a broker.
func BenchmarkCostlyUser(b *testing.B) {
	broker := benchBroker(b)
	topic, client := benchTopic(b, broker, kgo.ProducerLinger(5*time.Millisecond), kgo.ProducerBatchMaxBytes(150_000))
	writeAbsent(b, client, 2_000_000)
	for _, limit := range []struct {
		name  string
		flags []string
	}{{"unlimited", []string{"--replay-rate-per-user=0"}}, {"8MiB", []string{"--replay-rate-per-user=8388608"}}} {
		b.Run(limit.name, func(b *testing.B) {
			s := startBenchHerald(b, broker, topic, limit.flags...)
			s.settle(b)
			replays := 0
			for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
				replayAll(b, s, deadline)
			}
			cpu, read := s.cpu(b), s.metric(b, `herald_kafka_read_bytes_total{use="replay"}`)
			begun := time.Now()
			for deadline := begun.Add(30 * time.Second); time.Now().Before(deadline); replays++ {
				replayAll(b, s, deadline)
			}
			seconds := time.Since(begun).Seconds()
			b.ReportMetric(0, "ns/op")
			b.ReportMetric((s.cpu(b)-cpu).Seconds()/seconds, "cores")
			b.ReportMetric((s.metric(b, `herald_kafka_read_bytes_total{use="replay"}`)-read)/seconds/1e6, "MB/s")
			b.ReportMetric(float64(replays)/seconds, "replays/s")
		})
	}
}

// replayAll opens a stream of all records, and reads it until the checkpoint that follows the replay, or until the
// deadline.
func replayAll(b *testing.B, s *benchServer, deadline time.Time) {
	b.Helper()
	ctx, cancel := context.WithDeadline(b.Context(), deadline)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.address+"/events?user=costly&since=earliest", nil)
	if err != nil {
		b.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		if ctx.Err() == nil {
			b.Fatal(err)
		}
		return
	}
	defer res.Body.Close()
	checkpoints := 0
	for lines := bufio.NewScanner(res.Body); checkpoints < 2 && lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "event: checkpoint") {
			checkpoints++
		}
	}
}
