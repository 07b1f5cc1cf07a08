package consumer

import (
	"errors"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"herald/consumer/batch"
	"herald/consumer/broker"
	"herald/consumer/logtail"
)

// maxDelivery is the most records in one call of [Sink.Deliver].
const maxDelivery = 512

// maxDecoded is the size, in bytes, of decoded values at which [Sink.Deliver] is called with fewer records. Live reading
// decodes values to find the users in them, and a small value may become a large one.
const maxDecoded = 4 << 20

// delivery is memory for the records of one response after another. One goroutine uses it.
type delivery struct {
	records []Record
	batches batch.Reader
}

// deliverResponse handles the response to a fetch of the asked offsets. It returns false unless all of the
// response was records that the next fetch may follow.
func (r *liveReader) deliverResponse(s *shard, partitions map[topicIDPartition]*livePartition, res *kmsg.FetchResponse, asked map[topicIDPartition]int64) bool {
	steady, answered := true, time.Now()
	for i := range res.Topics {
		t := &res.Topics[i]
		for j := range t.Partitions {
			key := topicIDPartition{t.TopicID, t.Partitions[j].Partition}
			p := partitions[key]
			if p == nil {
				continue
			}
			// A response that was fetched ahead of unreadable records begins too far: fetch again from next.
			next, _ := p.position()
			point := fetchPoint{asked[key], s.session.acceptedEpoch(key, res.Version)}
			p.byName.Store(res.Version <= broker.FetchByName && res.Version > 0)
			steady = point.offset <= next && r.deliverPartition(s, p, &t.Partitions[j], point) && steady
		}
	}
	confirmEnds(partitions, res, answered)
	return steady
}

// deliverPartition hands one partition's records to the sink, or handles its error and returns false. The fetch was
// from the point asked on.
func (r *liveReader) deliverPartition(s *shard, p *livePartition, part *kmsg.FetchResponseTopicPartition, asked fetchPoint) bool {
	end := part.LastStableOffset
	if part.ErrorCode != 0 {
		end = endUnknown
	}
	defer func() { p.recordEnd(end) }() // once the records before it are delivered
	switch err := kerr.ErrorForCode(part.ErrorCode); {
	case err == nil && part.PreferredReadReplica != s.broker && r.cluster.Lists(part.PreferredReadReplica):
		r.preferFollower(p, part.PreferredReadReplica)
	case err == nil && (!r.vouches(p, part, asked) || !p.confirms(part.RecordBatches)):
	case err == nil:
		r.metrics.liveBytes.Add(float64(len(part.RecordBatches)))
		err := r.deliverRecords(&s.delivery, p, part)
		if unreadable, ok := errors.AsType[*UnreadableError](err); ok {
			r.handleUnreadable(p, unreadable)
		}
		if errors.Is(err, errAwaitsSchema) {
			r.beginSchemaWait(p, part)
		}
		return err == nil && !r.shortenLookBack(p) && !s.batches.Jumped()
	case errors.Is(err, kerr.OffsetOutOfRange):
		if !r.forsakeFollower(p) { // a follower may lack records that the leader has
			r.handleOutOfRange(p, asked)
		}
	default:
		r.handleRefusal(s.broker, p, err)
	}
	return false
}

// deliverRecords hands the partition's records to the tail and the sink. The error is an [*UnreadableError] or
// errAwaitsSchema.
// deliverRecords returns no error for message sets of magic 0 and 1, because another fetch would return the same.
// It leaves them out at once and reads the records after them.
func (r *liveReader) deliverRecords(d *delivery, p *livePartition, part *kmsg.FetchResponseTopicPartition) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	if p.failed != "" {
		p.failed = ""
		r.topics.allow(p.Topic)
	}
	p.logEnd = max(part.LastStableOffset, p.next)
	if part.LogStartOffset >= 0 && part.LogStartOffset != p.logStart { // below Fetch v5, -1: not known
		p.logStart = part.LogStartOffset
		p.tail.DropBefore(p.logStart)
	}
	b := &d.batches
	b.Reset(part.RecordBatches, part.AbortedTransactions, p.next)
	if !p.sparse {
		b.StopAtJump()
	}
	defer b.Close()
	list := d.records[:0]
	decoded := 0 // bytes of the list's values
	for {
		list = append(list, Record{})
		more, next, err := r.takeRecordLocked(p, b, &list[len(list)-1])
		if taken := &list[len(list)-1]; !more || !p.route.Where.isMet(&taken.Record) {
			*taken = Record{} // it points into the response
			if list = list[:len(list)-1]; len(list) == 0 {
				b.DropRecords()
			}
		} else {
			decoded += taken.decodedSize()
		}
		full := len(list) == maxDelivery || decoded >= maxDecoded || len(list) > 0 && b.MustDropRecords()
		if full || !more && next > p.next { // the last offsets may have no record
			if len(list) > 0 {
				p.takeWitnessLocked(&list[len(list)-1].Record)
			}
			r.passOnLocked(p, list, next)
			r.metrics.records.Add(float64(len(list)))
			clear(list) // the records point into the response, which may be large
			b.DropRecords()
			d.records = list[:0]
			list, decoded = d.records, 0
		}
		if bad, ok := errors.AsType[*UnreadableError](err); ok && errors.Is(bad, batch.ErrOldMessageFormat) {
			r.metrics.errors.WithLabelValues(errorUnreadable).Inc()
			r.leaveOutLocked(p, bad)
			b.SkipTo(p.next)
			continue
		}
		if !more {
			return err
		}
	}
}

// takeRecordLocked fills rec with the next record of the batches and its owner. It counts a record that has no owner, and a
// record that the route leaves out. A record that the route leaves out gets no owner, and waits for no schema. more is
// false if the batches have no further record, or with an error as deliverRecords returns it. next is the offset after the
// records so far.
func (r *liveReader) takeRecordLocked(p *livePartition, b *batch.Reader, rec *Record) (more bool, next int64, err error) {
	more, err = b.Next(&rec.Record)
	if err != nil {
		return false, b.NextOffset(), &UnreadableError{Position{p.Partition, b.NextOffset()}, b.NextReadable(), err}
	}
	if !more {
		return false, b.NextOffset(), nil
	}
	if !p.route.Where.isMet(&rec.Record) {
		p.takeWitnessLocked(&rec.Record)
		if rec.Offset >= p.liveFrom { // the others are for the tail alone
			p.filtered.Inc()
		}
		return true, b.NextOffset(), nil
	}
	if rec.decoding = p.decoding; rec.decoding != nil && !p.mayTakeLocked(rec) {
		return false, rec.Offset, errAwaitsSchema
	}
	p.route.setOwner(rec, p.owner)
	if p.ownerless != nil && p.ownerless.mayCount(rec.User) && rec.Offset >= p.liveFrom {
		p.ownerless.count(p.Partition, rec)
	}
	return true, b.NextOffset(), nil
}

// passOnLocked hands records, and the offset after them, to the tail and to the sink. The tail gets them first,
// because a stream may request a replay of records as soon as the sink has them.
func (r *liveReader) passOnLocked(p *livePartition, records []Record, next int64) {
	logtail.Append(p.tail, next, records, owned)
	p.next, p.moved, p.attempts = next, time.Now(), 0
	for len(records) > 0 && records[0].Offset < p.liveFrom {
		records = records[1:]
	}
	if next > p.liveFrom {
		r.sink.Deliver(p.Partition, records, next)
	}
}

// owned returns the record and its user, which is empty if the record is for everyone.
func owned(r *Record) ([]byte, *batch.Record) { return r.User, &r.Record }

// handleUnreadable parks the partition, so that the records are fetched again. After [readTries] fetches it leaves
// them out with a gap, so that the records after them arrive.
func (r *liveReader) handleUnreadable(p *livePartition, bad *UnreadableError) {
	r.metrics.errors.WithLabelValues(errorUnreadable).Inc()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	if p.attempts++; p.attempts < readTries {
		r.park(p)
		return
	}
	r.leaveOutLocked(p, bad)
}

// leaveOutLocked logs records that cannot be read, and continues after them.
func (r *liveReader) leaveOutLocked(p *livePartition, bad *UnreadableError) {
	p.attempts = 0
	logUnreadable(r.log, bad)
	r.skipLocked(p, bad.Next, GapUnreadable)
}

func logUnreadable(log *slog.Logger, bad *UnreadableError) {
	log.Error("records cannot be read and are left out", "topic", bad.Topic, "partition", bad.ID, "offset", bad.Offset, "next", bad.Next, "error", bad.err)
}

// skipLocked continues at the offset to. It reports a gap for the records before it, unless they were for the tail
// alone.
func (r *liveReader) skipLocked(p *livePartition, to int64, reason GapReason) {
	p.tail.Restart(to)
	if gap, ok := p.gapLocked(to, reason); ok {
		r.sink.Gap(p.Partition, gap)
		p.liveFrom = min(p.liveFrom, to)
	}
	p.next, p.moved = to, time.Now()
}

// handleRefusal handles an error that the broker returns for the partition. The partition waits for new metadata,
// which says where to read it. handleRefusal logs an error once while it repeats.
func (r *liveReader) handleRefusal(from int32, p *livePartition, err error) {
	kind := errorKind(err)
	r.metrics.errors.WithLabelValues(kind).Inc()
	p.mu.Lock()
	repeated := p.failed == err.Error()
	p.failed = err.Error()
	p.gone = p.gone || kind == errorGone
	next := p.next
	p.mu.Unlock()
	if kind == errorDenied {
		r.topics.deny(p.Topic, err)
	} else if !repeated {
		level := slog.LevelWarn
		if kind == errorMoved || kind == errorGone {
			level = slog.LevelInfo
		}
		r.brokerLog.recordRefusal(r.ctx, refusal{from, level, err.Error()}, Position{p.Partition, next})
	}
	r.forsakeFollower(p)
	r.park(p)
}

// handleOutOfRange finds out why the log does not hold the partition's next offset, and reports the lost
// records as a gap: retention deleted them, or the log was cut.
func (r *liveReader) handleOutOfRange(p *livePartition, asked fetchPoint) {
	if !p.looksBack() { // a log that starts after the look-back is not an error
		r.metrics.errors.WithLabelValues(errorOutOfRange).Inc()
	}
	start, end, err := r.offsets.askRange(r.ctx, p.Partition, p.topicID)
	if err != nil {
		r.park(p)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.byName.Load() && asked.offset < start { // the witness was deleted
		p.settleLocked(asked.epoch)
	}
	if p.closed || p.next >= start && p.next <= end {
		return
	}
	if p.byName.Load() && p.next > end && !p.wasCutLocked(asked.epoch) && r.denyLocked(p) {
		return
	}
	to, reason := start, GapRetention
	if p.next > end {
		to, reason = end, GapUnknownID
		p.witness = witness{} // it was cut off
		p.settleLocked(asked.epoch)
	}
	if gap, ok := p.gapLocked(to, reason); ok {
		r.log.Warn("records are lost", "topic", p.Topic, "partition", p.ID, "from", gap.From, "to", to, "reason", reason)
	}
	r.skipLocked(p, to, reason)
}
