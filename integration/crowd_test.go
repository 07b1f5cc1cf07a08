package integration

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// crowd is many streams, each with its own user: user-0, user-1 and so on.
type crowd struct {
	t       *testing.T
	dialer  net.Dialer
	address string
	streams []*lightStream
	lastIDs []string
}

func newCrowd(t *testing.T, h *herald, size int) *crowd {
	t.Helper()
	c := &crowd{t: t, address: h.public, streams: make([]*lightStream, size), lastIDs: make([]string, size)}
	t.Cleanup(c.Cut)
	return c
}

func user(i int) string { return fmt.Sprint("user-", i) }

// all calls what for all streams at once. Errors fail the test.
func (c *crowd) all(what func(i int) error) {
	c.t.Helper()
	var mu sync.Mutex
	var failed []error
	var wg sync.WaitGroup
	for i := range c.streams {
		wg.Go(func() {
			if err := what(i); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed = append(failed, fmt.Errorf("%s: %w", user(i), err))
			}
		})
	}
	wg.Wait()
	if len(failed) > 0 {
		c.t.Fatalf("%d of %d clients: %v", len(failed), len(c.streams), errors.Join(failed[:min(3, len(failed))]...))
	}
}

// Connect connects all clients at once, each with its last event ID.
func (c *crowd) Connect() {
	c.t.Helper()
	c.all(func(i int) (err error) {
		c.streams[i], err = openLight(c.t.Context(), &c.dialer, c.address, user(i), c.lastIDs[i])
		return err
	})
}

// Cut cuts all connections and keeps the last event IDs.
func (c *crowd) Cut() {
	for i, s := range c.streams {
		if s != nil {
			s.Cut()
			c.lastIDs[i], c.streams[i] = s.reader.idBuffer, nil
		}
	}
}

// ReadTo reads all streams at once, each as lightStream.ReadTo does.
func (c *crowd) ReadTo(end map[string]int) {
	c.t.Helper()
	c.all(func(i int) error { return c.streams[i].ReadTo(end) })
}

// batchBytes is the maximum size of a record batch of produceMany. A broker truncates the last batch of an answer
// and sends it again in the next answer; with small batches, few bytes are sent twice.
const batchBytes = 16 << 10

// produceMany writes the records without waiting for each.
func (b *broker) produceMany(t *testing.T, records func(yield func(*kgo.Record) bool)) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(b.addresses...), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ProducerBatchMaxBytes(batchBytes))
	if err != nil {
		t.Fatalf("producer: %v", err)
	}
	defer client.Close()
	var mu sync.Mutex
	var failed error
	for r := range records {
		client.Produce(t.Context(), r, func(_ *kgo.Record, err error) {
			mu.Lock()
			defer mu.Unlock()
			failed = errors.Join(failed, err)
		})
	}
	if err := errors.Join(client.Flush(t.Context()), failed); err != nil {
		t.Fatalf("produce: %v", err)
	}
}

// bytesOf returns how many bytes of record batches the topics' logs have.
func (b *broker) bytesOf(t *testing.T, topics ...string) (bytes int64) {
	t.Helper()
	found, err := b.admin.DescribeAllLogDirs(t.Context(), nil)
	if err != nil {
		t.Fatalf("sizes of logs: %v", err)
	}
	found.Each(func(dir kadm.DescribedLogDir) {
		for _, topic := range topics {
			for _, p := range dir.Topics[topic] {
				bytes += p.Size
			}
		}
	})
	return bytes / int64(b.replicas)
}

// TestReconnectStorm reconnects thousands of clients at once. Each has missed some hundred records of its own
// topic and of the broadcast topic, and must receive each of them once and in order.
//
// By default the tail holds most of the missed records, and the rest of the memory holds the others: Herald reads
// each byte of the log at most twice. With less memory, Herald starts the second pass when it guesses that no more
// clients arrive, or when it has waited for ten times as long as the first pass took. Clients that arrive later need a third
// pass. In both cases a broker truncates the last batch of an answer and sends it again.
func TestReconnectStorm(t *testing.T) {
	for _, test := range []struct {
		name  string
		args  []string
		times float64
	}{
		{"all in memory", nil, 2},
		{"a quarter in memory", []string{"--replay-cache-bytes=8388608"}, 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			const cutOff = 0.05
			for try := 1; ; try++ {
				times, back := storm(t, test.args...)
				if times <= test.times+cutOff {
					return
				}
				// On a busy machine, the clients of one storm arrive as several.
				if try == 3 || back < 1500*time.Millisecond {
					t.Fatalf("the log was read %.2f times for clients that came back in %v, want at most %v times", times, back, test.times)
				}
			}
		})
	}
}

// storm returns how many times the bytes of the log were read from Kafka, and how long the clients took to connect again.
func storm(t *testing.T, args ...string) (times float64, back time.Duration) {
	t.Helper()
	const partitions, own, everyones = 4, 100, 200
	clients := 5000
	if raceDetector { // the race detector bounds the number of goroutines
		clients = 500
	}
	b := sharedBroker(t)
	shared, everyone := b.newTopic(t, "shared", partitions), b.newTopic(t, "everyone", 1)
	h := startHerald(t, b, append(args, "--topic="+shared, "--topic="+everyone+",kind=broadcast")...)
	c := newCrowd(t, h, clients)
	c.Connect()
	c.Cut()
	b.produceMany(t, func(yield func(*kgo.Record) bool) {
		for n := range everyones {
			yield(record(everyone, "", fmt.Sprintf("everyone %d", n)))
			for i := 0; i < clients && n < own; i++ {
				yield(inPartition(int32(i%partitions), record(shared, user(i), fmt.Sprintf("own %d of user %d, with twenty more", n, i))))
			}
		}
	})
	const read, fromTail = `herald_kafka_read_bytes_total{use="replay"}`, "herald_kafka_tail_replays_total"
	readBefore := h.Metric(read)
	began := time.Now()
	c.Connect()
	back = time.Since(began)
	c.ReadTo(map[string]int{"own": own, "everyone": everyones})
	all := time.Since(began)
	b.produce(t, record(everyone, "", fmt.Sprintf("everyone %d", everyones)))
	c.ReadTo(map[string]int{"own": own, "everyone": everyones + 1}) // fails if a record comes twice

	log := float64(b.bytesOf(t, shared, everyone))
	times = (h.Metric(read) - readBefore) / log
	t.Logf("%d clients came back in %.1f s for %d records each and had them in %.1f s; of %.0f MB of log %.2f times as much was read from Kafka, in %v passes, and %v replays came from the tail",
		clients, back.Seconds(), own+everyones, all.Seconds(), log/1e6, times, h.Metric("herald_kafka_replay_passes_total"), h.Metric(fromTail))
	return times, back
}

// TestStalledClients opens streams whose clients do not read, and streams whose clients read. The reading clients
// must receive all records, and the queues must bound herald's memory. When the stalled clients read, they must
// receive all records too.
func TestStalledClients(t *testing.T) {
	const (
		stalled, others, records, size = 1000, 20, 150, 2000
		queue                          = 32 << 10
	)
	b := sharedBroker(t)
	shared := b.newTopic(t, "shared", 4)
	h := startHerald(t, b, "--topic="+shared, "--write-timeout=5m", fmt.Sprint("--max-queue-bytes=", queue),
		"--kafka-fetch-max-bytes=1048576", "--replay-cache-bytes=1048576") // little memory for things other than streams
	crowd, lively := newCrowd(t, h, stalled), newCrowd(t, h, others)
	crowd.dialer.Control = narrow
	crowd.Connect()
	for i := range lively.streams {
		var err error
		if lively.streams[i], err = openLight(t.Context(), &lively.dialer, h.public, user(stalled+i), ""); err != nil {
			t.Fatal(err)
		}
	}
	const memory = "process_resident_memory_bytes"
	before := h.Metric(memory)
	most := before
	padding := strings.Repeat("x", size)
	watch, stop := context.WithCancel(t.Context())
	var watching sync.WaitGroup
	watching.Go(func() {
		for watch.Err() == nil {
			most = max(most, h.Metric(memory))
			time.Sleep(100 * time.Millisecond)
		}
	})
	t.Cleanup(watching.Wait)
	t.Cleanup(stop)
	b.produceMany(t, func(yield func(*kgo.Record) bool) {
		for n := range records {
			for i := range stalled + others {
				yield(inPartition(int32(i%4), record(shared, user(i), fmt.Sprintf("own %d %s", n, padding))))
			}
		}
	})
	lively.ReadTo(map[string]int{"own": records})
	overflows := h.Metric("herald_stream_overflows_total")
	if overflows < stalled {
		t.Errorf("%v queues were full, want those of all %d stalled clients", overflows, stalled)
	}
	if open := h.Metric("herald_streams"); open != stalled+others {
		t.Errorf("%v streams are open, want all %d", open, stalled+others)
	}
	time.Sleep(2 * time.Second) // time in which a leak would grow
	stop()
	watching.Wait()
	grown := most - before
	// Each client has a waiting queue and a queue being written. Memory doubles before the garbage collector
	// runs. Reading from Kafka takes the rest.
	bound := float64(stalled*4*queue + 64<<20)
	t.Logf("%d stalled clients for whom %.0f MB wait: memory grew by %.0f MB, from %.0f MB; the bound is %.0f MB", stalled, stalled*records*size/1e6, grown/1e6, before/1e6, bound/1e6)
	if grown > bound && !raceDetector { // the race detector needs memory too
		t.Errorf("memory grew by %.0f MB", grown/1e6)
	}
	crowd.ReadTo(map[string]int{"own": records})
	b.produceMany(t, func(yield func(*kgo.Record) bool) {
		for i := range stalled {
			yield(inPartition(int32(i%4), record(shared, user(i), fmt.Sprintf("own %d", records))))
		}
	})
	crowd.ReadTo(map[string]int{"own": records + 1}) // fails if a record comes twice
}
