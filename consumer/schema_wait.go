package consumer

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// schemaWait is the wait of a live partition for the schema of its next record. The partition is in no shard meanwhile,
// so that the other partitions continue. The registry's answer ends the wait.
type schemaWait struct {
	wake  func() // ends the wait; it may be called before the wait has begun
	begun time.Time
	over  bool        // the registry has answered; guarded by liveReader.mu
	timer *time.Timer // logs a long wait
}

// schemaWaitQuiet is how long a partition may wait for a schema before the log says so.
const schemaWaitQuiet = 2 * time.Second

// schemaWaitError says that live reading must wait for a schema.
type schemaWaitError struct{ wait *schemaWait }

func (*schemaWaitError) Error() string { return ErrNotReady.Error() }

// newSchemaWait returns the wait of the partition, if one of its next records has to wait. It is nil without a format.
func (r *liveReader) newSchemaWait(p *livePartition) *schemaWait {
	if p.decoding == nil {
		return nil
	}
	w := new(schemaWait)
	w.wake = func() { r.endSchemaWait(p, w) }
	return w
}

// mayTakeLocked reports whether the record can be delivered now. If not, w ends once the registry has answered. The tail
// takes records as they are. But the tail of a topic whose values name the users needs the users.
func (p *livePartition) mayTakeLocked(rec *Record, w *schemaWait) bool {
	if rec.Offset < p.liveFrom && p.route.UserPointer == "" {
		rec.isReady(nil) // begins to ask: a replay may want the record soon
		return true
	}
	return p.route.isReady(rec, w.wake)
}

// beginSchemaWait takes the partition out of its shard, unless the registry has answered meanwhile.
func (r *liveReader) beginSchemaWait(p *livePartition, w *schemaWait) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if w.over || r.partitions[p.Partition] != p {
		return
	}
	r.detachLocked(p)
	p.wait, w.begun = w, time.Now()
	w.timer = time.AfterFunc(schemaWaitQuiet, func() { r.logSchemaWait(p, w) })
}

// endSchemaWait has the partition read again.
func (r *liveReader) endSchemaWait(p *livePartition, w *schemaWait) {
	at, err := r.topics.placeOf(p.Partition, p.topicID)
	r.mu.Lock()
	defer r.mu.Unlock()
	w.over = true
	if p.wait != w {
		return
	}
	p.wait = nil
	if !w.timer.Stop() {
		r.log.Info("partition continues: the schema is there", "topic", p.Topic, "partition", p.ID, "waited", time.Since(w.begun).Round(time.Millisecond))
	}
	if err == nil { // otherwise the next metadata assigns the partition
		r.assignLocked(p, at)
	}
}

// logSchemaWait logs a partition that still waits, one in each [undecodablePeriod] of a topic.
func (r *liveReader) logSchemaWait(p *livePartition, w *schemaWait) {
	next, _ := p.position()
	r.mu.Lock()
	waits := p.wait == w && r.partitions[p.Partition] == p
	r.mu.Unlock()
	if waits && mayLog(&p.decoding.waited, undecodablePeriod) {
		r.log.Warn("partition waits for the schema of its next record; nothing is lost", "topic", p.Topic, "partition", p.ID, "offset", next)
	}
}

// countSchemaWaits returns how many partitions wait for a schema, and one of them.
func (r *liveReader) countSchemaWaits() (count int, example Partition) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.partitions {
		if p.wait != nil {
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
	return p.wait != nil
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
