package consumer

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// schemaWait lets a live partition wait for the schema of its next record. The partition is in no shard meanwhile, so that
// the other partitions continue.
type schemaWait struct {
	answered chan struct{} // the registry has answered; it may also have an answer that was not waited for
	wake     func()        // sends to answered, and does not wait

	waits bool // guarded by liveReader.mu
}

// newSchemaWait returns the schemaWait of a partition whose route has a format, or else nil.
func newSchemaWait(d *decoder) *schemaWait {
	if d == nil {
		return nil
	}
	answered := make(chan struct{}, 1)
	return &schemaWait{answered: answered, wake: func() {
		select {
		case answered <- struct{}{}:
		default:
		}
	}}
}

// schemaWaitQuiet is how long a partition may wait for a schema before the log says so.
const schemaWaitQuiet = 2 * time.Second

// maxKeptBytes is how much all partitions that wait for schemas may keep of the records that were fetched. A partition
// keeps them until schemaWaitQuiet has passed, and continues with them at once. Otherwise each new schema in a backlog
// would cost a fetch, which often takes fetchMaxWait. Partitions without such memory fetch their records again.
const maxKeptBytes = 32 << 20

// errAwaitsSchema says that a partition's next record needs a schema that is not there yet.
var errAwaitsSchema = errors.New("the schema of the next record is not there yet")

// mayTakeLocked reports whether the record can be delivered now. If not, the registry's answer wakes the partition. The
// tail takes records as they are. But the tail of a topic whose values name the users needs the users.
func (p *livePartition) mayTakeLocked(rec *Record) bool {
	if rec.Offset < p.liveFrom && p.route.UserPointer == "" {
		rec.isReady(nil) // begins to ask: a replay may want the record soon
		return true
	}
	return p.route.isReady(rec, p.schemas.wake)
}

// beginSchemaWait takes the partition out of its shard until its next record has its schema. part has that record.
func (r *liveReader) beginSchemaWait(p *livePartition, part *kmsg.FetchResponseTopicPartition) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.partitions[p.Partition] != p || p.schemas.waits {
		return
	}
	r.detachLocked(p)
	p.schemas.waits = true
	kept := r.keepPart(part)
	r.wg.Go(func() { r.awaitSchemas(p, kept) })
}

// keepPart returns a copy of a response that does not point into the session's memory. It returns nil if all partitions
// have kept so much that there is no room for the copy.
func (r *liveReader) keepPart(part *kmsg.FetchResponseTopicPartition) *kmsg.FetchResponseTopicPartition {
	size := int64(len(part.RecordBatches))
	if r.kept.Add(size) > maxKeptBytes {
		r.kept.Add(-size)
		return nil
	}
	kept := *part
	kept.RecordBatches = bytes.Clone(part.RecordBatches)
	return &kept
}

// dropPart frees what keepPart has returned.
func (r *liveReader) dropPart(kept *kmsg.FetchResponseTopicPartition) {
	if kept != nil {
		r.kept.Add(-int64(len(kept.RecordBatches)))
	}
}

// awaitSchemas delivers the rest of the kept response, each record as soon as its schema is there. Then the partition is
// read again.
func (r *liveReader) awaitSchemas(p *livePartition, kept *kmsg.FetchResponseTopicPartition) {
	defer func() { r.dropPart(kept) }()
	var memory delivery
	begun, quiet, logged := time.Now(), time.NewTimer(schemaWaitQuiet), false
	defer quiet.Stop()
	for waits := true; waits; {
		select {
		case <-p.schemas.answered:
			waits = kept != nil && errors.Is(r.deliverRecords(&memory, p, kept), errAwaitsSchema)
			quiet.Reset(schemaWaitQuiet)
		case <-quiet.C:
			r.dropPart(kept)
			kept, logged = nil, true
			r.logSchemaWait(p)
		case <-r.ctx.Done():
			return
		}
	}
	if logged {
		r.log.Info("partition continues: the schema registry has answered", "topic", p.Topic, "partition", p.ID, "waited", time.Since(begun).Round(time.Millisecond))
	}
	at, err := r.topics.placeOf(p.Partition, p.topicID)
	r.mu.Lock()
	defer r.mu.Unlock()
	p.schemas.waits = false
	if err == nil { // otherwise the next metadata assigns the partition
		r.assignLocked(p, at)
	}
}

// logSchemaWait logs a partition that still waits, one in each [undecodablePeriod] of a topic.
func (r *liveReader) logSchemaWait(p *livePartition) {
	if next, _ := p.position(); mayLog(&p.decoding.waited, undecodablePeriod) {
		r.log.Warn("partition waits for the schema of its next record; nothing is lost", "topic", p.Topic, "partition", p.ID, "offset", next)
	}
}

// awaitsSchemaLocked reports whether the partition waits for a schema.
func (p *livePartition) awaitsSchemaLocked() bool { return p.schemas != nil && p.schemas.waits }

// countSchemaWaits returns how many partitions wait for a schema, and one of them.
func (r *liveReader) countSchemaWaits() (count int, example Partition) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.partitions {
		if p.awaitsSchemaLocked() {
			count++
			example = p.Partition
		}
	}
	return count, example
}

// SchemasKnown returns nil unless a partition waits for a schema. The error says why.
func (c *Consumer) SchemasKnown() error {
	count, example := c.reader.countSchemaWaits()
	if count == 0 {
		return nil
	}
	err := fmt.Errorf("partitions that wait for a schema: %d, such as %s", count, example)
	if c.cfg.Schemas != nil && c.cfg.Schemas.Err() != nil {
		err = fmt.Errorf("%w: %w", err, c.cfg.Schemas.Err())
	}
	return err
}

// awaitsSchema reports whether the partition waits for a schema.
func (r *liveReader) awaitsSchema(p *livePartition) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return p.awaitsSchemaLocked()
}

// newSchemaWaitMetric returns the metric of partitions that wait for a schema.
func newSchemaWaitMetric(r *liveReader) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "herald_kafka_schema_waiting_partitions", Help: "Partitions that wait for the schema registry to answer for their next record.",
	}, func() float64 {
		count, _ := r.countSchemaWaits()
		return float64(count)
	})
}
