package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sys/unix"
)

const (
	stormClients = 5000
	stormLimit   = 64 // the most clients that connect at a time; a load balancer, or jitter in retry, spreads clients like that
	otherUsers   = 100_000
)

// resumeStorm is a crowd of clients that are cut and come back.
type resumeStorm struct {
	clients  *resumeClients
	producer *kgo.Client
	files    int // open files of the server without a stream
}

func newStorm(b *testing.B, server *benchServer, producer *kgo.Client) *resumeStorm {
	b.Helper()
	users := make([]int, stormClients)
	for i := range users {
		users[i] = i
	}
	return newStormOf(b, server, producer, users...)
}

func newStormOf(b *testing.B, server *benchServer, producer *kgo.Client, users ...int) *resumeStorm {
	b.Helper()
	s := &resumeStorm{producer: producer}
	for server.count(b) == 0 { // until the server reads
		for range 20 {
			s.write(b, stormClients, 0)
		}
		s.flush(b)
		time.Sleep(100 * time.Millisecond)
	}
	server.settle(b)
	s.files = server.files(b)
	clients, err := newResumeClients(server, users...)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(clients.close)
	s.clients = clients
	return s
}

// open opens all streams anew, from now on. A client that resumed may lack a late position in the partitions that
// brought nothing, because it learns that with the next event or checkpoint.
func (s *resumeStorm) open(b *testing.B) {
	b.Helper()
	s.clients.cut(s.clients.clients...)
	for _, c := range s.clients.clients {
		c.position = nil
	}
	if err := s.clients.resume(stormLimit, s.clients.clients...); err != nil {
		b.Fatal(err)
	}
}

// run opens the streams, cuts them, and lets the clients come back for the records that were written meanwhile: missed records for each
// client, and after each of them as many as beside says for other users.
func (s *resumeStorm) run(b *testing.B, missed, beside int) stormCost {
	b.Helper()
	b.StopTimer()
	server, clients := s.clients.server, s.clients.clients
	s.settle(b)
	s.open(b)
	s.clients.cut(clients...)
	for server.files(b) > s.files+10 { // until the server has noticed
		time.Sleep(10 * time.Millisecond)
	}
	had := server.settle(b)
	for range missed {
		for _, c := range clients {
			s.write(b, c.user, c.end)
			c.end++
			for range beside {
				s.write(b, stormClients+rand.IntN(otherUsers), 0)
			}
		}
	}
	s.flush(b)
	server.waitRead(b, had+missed*len(clients)*(1+beside))
	time.Sleep(500 * time.Millisecond) // collections of garbage under way end
	cost := stormCost{resumes: len(clients), events: missed * len(clients)}
	before, start := costNow(b, server), time.Now()
	b.StartTimer()
	err := s.clients.resume(stormLimit, clients...)
	b.StopTimer()
	cost.elapsed = time.Since(start)
	cost.add(costNow(b, server).minus(before))
	b.StartTimer()
	if err != nil {
		b.Fatal(err)
	}
	return cost
}

// settle fails the benchmark if a client gets a record that it must not get.
func (s *resumeStorm) settle(b *testing.B) {
	b.Helper()
	for end := time.Now().Add(200 * time.Millisecond); time.Now().Before(end); {
		if _, err := s.clients.read(50 * time.Millisecond); err != nil {
			b.Fatal(err)
		}
	}
}

// write writes a record of about 100 bytes, which does not compress well.
func (s *resumeStorm) write(b *testing.B, to, number int) {
	b.Helper()
	s.producer.Produce(b.Context(), resumeRecord(to, number), func(_ *kgo.Record, err error) {
		if err != nil {
			b.Error(err)
		}
	})
}

func (s *resumeStorm) flush(b *testing.B) {
	b.Helper()
	if err := s.producer.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
}

// writeTo writes one to three records for the user of both clients, and waits until the witness, which is connected,
// has got them.
func (s *resumeStorm) writeTo(b *testing.B, client, witness *resumeClient) {
	b.Helper()
	for range 1 + rand.IntN(3) {
		s.write(b, client.user, client.end)
		client.end++
	}
	s.flush(b)
	witness.end, witness.done = client.end, witness.next == client.end
	for !witness.done {
		if arrived, err := s.clients.read(patience); err != nil || !arrived {
			b.Fatalf("record %d does not arrive: %v", witness.next, err)
		}
	}
}

// resumeTopic returns a topic and a client that writes batches without compression, which is the default of Java's
// producer.
func resumeTopic(b *testing.B, broker string) (topic string, client *kgo.Client) {
	b.Helper()
	return benchTopic(b, broker, kgo.ProducerLinger(5*time.Millisecond), kgo.ProducerBatchMaxBytes(150_000), kgo.ProducerBatchCompression(kgo.NoCompression()))
}

func resumeRecord(to, number int) *kgo.Record {
	name := []byte(user(to))
	value := append([]byte(nil), `{"to":`...)
	value = strconv.AppendInt(value, int64(to), 10)
	value = append(value, `,"n":`...)
	value = strconv.AppendInt(value, int64(number), 10)
	value = append(value, `,"text":"`...)
	for range 4 {
		value = fmt.Appendf(value, "%016x", rand.Uint64())
	}
	return &kgo.Record{Key: name, Value: append(value, `"}`...), Headers: []kgo.RecordHeader{{Key: channelHeader, Value: name}}}
}

// writeSteadily writes this many records a second for other users, until ctx ends.
func writeSteadily(ctx context.Context, producer *kgo.Client, rate int) error {
	const interval = 5 * time.Millisecond
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	failed := make(chan error, 1)
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return err
		case <-ticker.C:
		}
		for range rate / int(time.Second/interval) {
			producer.Produce(ctx, resumeRecord(stormClients+rand.IntN(otherUsers), 0), func(_ *kgo.Record, err error) {
				if err != nil && ctx.Err() == nil {
					select {
					case failed <- err:
					default:
					}
				}
			})
		}
	}
}

// stormCost is what one storm or several storms have cost.
type stormCost struct {
	resumes, events  int
	elapsed          time.Duration
	server, client   time.Duration // CPU
	passes, records  float64       // of Herald's replays
	kafkaReplayBytes float64
}

// costNow returns what the server has used so far.
func costNow(b *testing.B, server *benchServer) (c stormCost) {
	b.Helper()
	var own unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &own); err != nil {
		b.Fatal(err)
	}
	c.server, c.client = server.cpu(b), time.Duration(own.Utime.Nano()+own.Stime.Nano())
	if server.name == "herald" {
		c.passes = server.metric(b, "herald_kafka_replay_passes_total")
		c.records = server.metric(b, "herald_kafka_replay_records_total")
		c.kafkaReplayBytes = server.metric(b, `herald_kafka_read_bytes_total{use="replay"}`)
	}
	return c
}

func (c *stormCost) add(d stormCost) {
	c.resumes += d.resumes
	c.events += d.events
	c.elapsed += d.elapsed
	c.server += d.server
	c.client += d.client
	c.passes += d.passes
	c.records += d.records
	c.kafkaReplayBytes += d.kafkaReplayBytes
}

func (c stormCost) minus(d stormCost) stormCost {
	c.server -= d.server
	c.client -= d.client
	c.passes -= d.passes
	c.records -= d.records
	c.kafkaReplayBytes -= d.kafkaReplayBytes
	return c
}

// cpuPerClient returns the server's CPU time for one resume, in microseconds.
func (c stormCost) cpuPerClient() float64 { return c.server.Seconds() * 1e6 / float64(c.resumes) }

func (c stormCost) report(b *testing.B, s *resumeStorm) {
	b.Helper()
	b.ReportMetric(float64(c.events)/c.elapsed.Seconds(), "events/s")
	b.ReportMetric(c.cpuPerClient(), "cpu-us/client")
	b.ReportMetric(c.client.Seconds()*1e6/float64(c.resumes), "client-us/client")
	b.ReportMetric(float64(s.clients.server.peakMemory(b))/1e6, "peak-MB")
	if storms := float64(c.resumes) / stormClients; s.clients.server.name == "herald" {
		b.ReportMetric(c.kafkaReplayBytes/1e6/storms, "kafka-MB/storm")
		b.ReportMetric(c.passes/storms, "passes/storm")
		b.ReportMetric(c.records/storms, "decoded/storm")
	}
}
