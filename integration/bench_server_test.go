package integration

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// benchServer is a server that a benchmark measures from outside, in a process of its own.
type benchServer struct {
	name     string
	address  string // host:port of the streams
	metrics  string // URL of the metrics
	records  string // the series that counts the records that the server has read
	protocol benchProtocol
	process  *os.Process
}

// benchBroker returns the address of the broker for benchmarks, which HERALD_BENCH_BROKER names.
func benchBroker(b *testing.B) string {
	b.Helper()
	broker := os.Getenv("HERALD_BENCH_BROKER")
	if broker == "" {
		b.Skip("HERALD_BENCH_BROKER names no broker")
	}
	return broker
}

// benchTopic creates a topic of four partitions and returns a client that writes to it.
func benchTopic(b *testing.B, broker string, options ...kgo.Opt) (topic string, client *kgo.Client) {
	b.Helper()
	topic = fmt.Sprintf("bench%d", time.Now().UnixNano())
	client, err := kgo.NewClient(append(options, kgo.SeedBrokers(broker), kgo.DefaultProduceTopic(topic))...)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(client.Close)
	if _, err := kadm.NewClient(client).CreateTopic(b.Context(), 4, 1, nil, topic); err != nil {
		b.Fatal(err)
	}
	return topic, client
}

// startBenchHerald starts Herald without authentication.
func startBenchHerald(b *testing.B, broker, topic string, flags ...string) *benchServer {
	b.Helper()
	s := &benchServer{name: "herald", address: freeAddress(b), records: "herald_kafka_records_total", protocol: heraldProtocol}
	admin := freeAddress(b)
	s.metrics = "http://" + admin + "/metrics"
	s.start(b, heraldBinary(b), append([]string{
		"serve", "--insecure-no-auth", "--brokers=" + broker, "--topic=" + topic, "--group=" + topic, "--replica=one",
		"--log-level=error", "--listen=" + s.address, "--admin-listen=" + admin,
	}, flags...)...)
	return s
}

// startBenchCentrifugo starts Centrifugo, whose program HERALD_BENCH_CENTRIFUGO names (go install
// github.com/centrifugal/centrifugo/v6@latest). It authenticates nobody. A header of a record names the record's
// channel, the cheapest way that Centrifugo's documentation has. The memory holds the last records of each channel,
// up to history; 0 keeps none.
func startBenchCentrifugo(b *testing.B, broker, topic string, history int) *benchServer {
	b.Helper()
	program := os.Getenv("HERALD_BENCH_CENTRIFUGO")
	if program == "" {
		b.Skip("HERALD_BENCH_CENTRIFUGO names no program")
	}
	s := &benchServer{name: "centrifugo", address: freeAddress(b), records: "centrifugo_consumers_messages_processed_total", protocol: centrifugoProtocol}
	s.metrics = "http://" + s.address + "/metrics"
	channels := ""
	if history > 0 {
		channels = fmt.Sprintf(`"channel": {"without_namespace": {"history_size": %d, "history_ttl": "1h", "force_recovery": true}},`, history)
	}
	_, port, _ := net.SplitHostPort(s.address)
	config := filepath.Join(b.TempDir(), "config.json")
	text := fmt.Appendf(nil, `{
		"http_server": {"address": "127.0.0.1", "port": %q},
		"prometheus": {"enabled": true},
		"log": {"level": "error"},
		"client": {"insecure": true},
		"uni_sse": {"enabled": true},
		%s
		"consumers": [{"enabled": true, "name": "bench", "type": "kafka", "kafka": {
			"brokers": [%q], "topics": [%q], "consumer_group": %q,
			"publication_data_mode": {"enabled": true, "channels_header": %q}
		}}]
	}`, port, channels, broker, topic, topic, channelHeader)
	if err := os.WriteFile(config, text, 0o600); err != nil {
		b.Fatal(err)
	}
	s.start(b, program, "--config="+config)
	return s
}

// channelHeader is the record header that names Centrifugo's channel. The benchmarks' channels are users.
const channelHeader = "centrifugo-channels"

func (s *benchServer) start(b *testing.B, program string, args ...string) {
	b.Helper()
	command := exec.CommandContext(context.WithoutCancel(b.Context()), program, args...)
	command.Env, command.Stderr = []string{"HOME=" + b.TempDir()}, b.Output()
	if err := command.Start(); err != nil {
		b.Fatal(err)
	}
	s.process = command.Process
	b.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
	})
}

// metric returns the sum of the series with this name, or with this name and these labels. It is 0 while the server
// does not answer yet.
func (s *benchServer) metric(b *testing.B, name string) (sum float64) {
	b.Helper()
	a, err := send(b, http.MethodGet, s.metrics, "")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(a.body) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		value, err := strconv.ParseFloat(strings.TrimSpace(rest[strings.LastIndexByte(rest, ' ')+1:]), 64)
		if err != nil {
			b.Fatalf("%s: %v", line, err)
		}
		sum += value
	}
	return sum
}

// count returns how many records the server has read.
func (s *benchServer) count(b *testing.B) int {
	b.Helper()
	return int(s.metric(b, s.records))
}

// settle waits until the server reads nothing more, and returns how many records it has read.
func (s *benchServer) settle(b *testing.B) int {
	b.Helper()
	for settled := -1; ; time.Sleep(200 * time.Millisecond) {
		read := s.count(b)
		if read == settled {
			return read
		}
		settled = read
	}
}

// waitRead waits until the server has read this many records.
func (s *benchServer) waitRead(b *testing.B, records int) {
	b.Helper()
	for deadline := time.Now().Add(5 * time.Minute); s.count(b) < records; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.Fatalf("%s has read %d of %d records in five minutes", s.name, s.count(b), records)
		}
	}
}

// cpu returns the CPU time that the server has used. The kernel counts it in ticks of 10 ms.
func (s *benchServer) cpu(b *testing.B) time.Duration {
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

// peakMemory returns the largest resident set that the server has had, in bytes.
func (s *benchServer) peakMemory(b *testing.B) int {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.process.Pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	var kilobytes int
	if _, err := fmt.Sscan(rest, &kilobytes); err != nil {
		b.Fatalf("VmHWM: %v", err)
	}
	return kilobytes << 10
}

// files returns how many files the server has open; each connection is one.
func (s *benchServer) files(b *testing.B) int {
	b.Helper()
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.process.Pid))
	if err != nil {
		b.Fatal(err)
	}
	return len(open)
}
