package bench

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	pingTimeout = 10 * time.Second
	// maxBuffered is the most records that wait for Kafka's confirmation.
	maxBuffered = 50_000
	// pause is how long the writer sleeps when no record is due.
	pause = 200 * time.Microsecond
)

// writer writes the run's records to Kafka. Only one goroutine at a time may use it.
type writer struct {
	run     *run
	client  *kgo.Client
	records []*kgo.Record // by source: a template with topic, key and headers
	turn    int           // the source of the next record
	buffers sync.Pool
	count   atomic.Int64 // records written
}

// newWriter connects to Kafka.
func newWriter(r *run) (*writer, error) {
	// Each value holds the time of its record, so no record may wait for others to fill a batch. Records
	// that become due while requests are under way still share a batch.
	opts := append([]kgo.Opt{
		kgo.ProducerLinger(0), kgo.MaxBufferedRecords(maxBuffered), kgo.AllowAutoTopicCreation(),
		kgo.ProducerBatchCompression(kgo.NoCompression()),
	}, r.cfg.Kafka...)
	client, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, fmt.Errorf("connect to Kafka: %w", err)
	}
	w := &writer{run: r, client: client, buffers: sync.Pool{New: func() any { return new([]byte) }}}
	ctx, cancel := context.WithTimeout(r.ctx, pingTimeout)
	defer cancel()
	if err := checkBrokers(ctx, client); err != nil {
		client.Close()
		return nil, err
	}
	for source := range r.sources() {
		user := r.users[source]
		if r.cfg.Broadcast {
			user = ""
		}
		record := r.cfg.Record(user)
		if record == nil {
			client.Close()
			return nil, fmt.Errorf("--topic has no records for user %q", user)
		}
		if record.Key == nil {
			record.Key = []byte("herald-bench") // one key: all records are in one partition and keep their order
		}
		w.records = append(w.records, record)
	}
	return w, nil
}

// checkBrokers returns an error if no broker answers at --brokers, or if a broker does not answer at the address that
// the cluster advertises. The client would try again without end to write there.
func checkBrokers(ctx context.Context, client *kgo.Client) error {
	req := kmsg.NewPtrMetadataRequest()
	req.Topics = []kmsg.MetadataRequestTopic{} // none
	var found kmsg.Response
	var err error
	for _, seed := range client.SeedBrokers() {
		if found, err = seed.Request(ctx, req); err == nil {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("no Kafka broker answers at --brokers: %w", err)
	}
	seeds, _ := client.OptValue(kgo.SeedBrokers).([]string)
	brokers := found.(*kmsg.MetadataResponse).Brokers
	for i := range brokers {
		b := &brokers[i]
		if _, err := client.Broker(int(b.NodeID)).Request(ctx, req); err != nil {
			address := net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port)))
			if slices.Contains(seeds, address) {
				return fmt.Errorf("broker %d at %s: %w", b.NodeID, address, err)
			}
			return fmt.Errorf("broker %d, advertised as %s by %s (advertised.listeners): %w", b.NodeID, address, strings.Join(seeds, ", "), err)
		}
	}
	return nil
}

// write writes the source's next record.
func (w *writer) write(source int) {
	w.run.sent[source]++
	w.produce(w.records[source], value{w.run.id, source, w.run.sent[source], time.Now().UnixNano()}, w.run.cfg.Size)
}

func (w *writer) produce(like *kgo.Record, v value, size int) {
	w.count.Add(1)
	buffer := w.buffers.Get().(*[]byte)
	*buffer = v.append((*buffer)[:0], size)
	record := &kgo.Record{Topic: like.Topic, Key: like.Key, Headers: like.Headers, Value: *buffer}
	w.client.Produce(w.run.ctx, record, func(record *kgo.Record, err error) {
		w.buffers.Put(buffer)
		if err != nil {
			w.run.fail(fmt.Errorf("write to topic %s: %w", record.Topic, err))
		}
	})
}

// writeRound writes one record of each source.
func (w *writer) writeRound() {
	for source := range w.records {
		w.write(source)
	}
}

// writeNext writes a record of the source whose turn it is.
func (w *writer) writeNext() {
	w.write(w.turn)
	w.turn = (w.turn + 1) % len(w.records)
}

// writeSteadily writes records at the rate for the duration, or until ctx ends.
func (w *writer) writeSteadily(ctx context.Context) {
	due := w.atRate
	if w.run.cfg.Rate == 0 {
		due = w.asDelivered()
	}
	start := time.Now()
	for n := 0; ctx.Err() == nil; {
		elapsed := time.Since(start)
		if elapsed >= w.run.cfg.Duration {
			return
		}
		if n >= due(elapsed) {
			time.Sleep(pause)
			continue
		}
		w.writeNext()
		n++
	}
}

// atRate returns how many records are due after the elapsed time.
func (w *writer) atRate(elapsed time.Duration) int {
	return int(elapsed.Seconds()*float64(w.run.cfg.Rate)) + 1
}

// asDelivered returns a function that says how many records are due so that the server is always busy:
// one event for each stream is under way, two records of a broadcast, and more if there are only a few
// streams. With more records under way, the server would write several events at once, which the bare
// loop does not do.
func (w *writer) asDelivered() func(time.Duration) int {
	perRecord := w.run.cfg.PerUser
	if w.run.cfg.Broadcast {
		perRecord = w.run.cfg.Streams
	}
	start := w.run.unique()
	underWay := max(2, w.run.cfg.Streams/perRecord, 1000/perRecord)
	return func(time.Duration) int { return int(w.run.unique()-start)/perRecord + underWay }
}

// flush waits until Kafka has confirmed all records, or until it has confirmed none for as long as the patience. The
// client's own Flush waits without end for a broker that is unreachable.
func (w *writer) flush() error {
	confirmed := func() int64 { return w.count.Load() - w.client.BufferedProduceRecords() }
	return w.run.waitFor(w.run.ctx, "Kafka does not confirm all records", confirmed, w.count.Load())
}
