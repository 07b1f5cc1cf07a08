package main

import (
	"context"
	"errors"
	"time"

	"herald/auth"
	"herald/consumer"
	"herald/stream"
)

// Begin implements [consumer.Sink].
func (r *revocations) Begin(p consumer.Partition, topicID [16]byte, next int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if topicID != r.topicID {
		if r.topicID != ([16]byte{}) {
			r.gone = append(r.gone, r.topicID)
		}
		r.topicID = topicID
	}
	part := &revocationPartition{topicID: topicID, live: next, until: -1}
	r.partitions[p] = part
	ctx := r.ctx
	r.wg.Go(func() {
		read := r.past(ctx, consumer.Range{Partition: p, TopicID: topicID, To: next})
		r.mu.Lock()
		part.past = read
		r.mu.Unlock()
	})
	select {
	case r.begun <- struct{}{}:
	default:
	}
}

// past reads what a partition has before it is read live. It returns false if that is no more to be had:
// ctx has ended, or the topic is another one, whose partitions begin too.
func (r *revocations) past(ctx context.Context, left consumer.Range) bool {
	for {
		ranges := []consumer.Range{left}
		r.consumer.Replay(ctx, "", ranges, func(_ *consumer.Range, rec *consumer.Record) bool {
			r.set(left.Partition, left.TopicID, rec)
			return true
		})
		left = ranges[0]
		err := left.Err
		left.Err = nil
		lost, outOfRange := errors.AsType[*consumer.OutOfRangeError](err)
		bad, unreadable := errors.AsType[*consumer.UnreadableError](err)
		switch {
		case outOfRange && left.Next < lost.Start: // deleted by now
			left.Next = lost.Start
			continue
		case unreadable:
			r.errors.WithLabelValues("unreadable").Inc()
			r.log.Error("revocations cannot be read", "partition", left.String(), "error", bad)
			left.Next = bad.Next
			continue
		case err == nil, outOfRange: // the log was cut: it has no more
			r.endStreams()
			return true
		case !r.reads(left.Partition, left.TopicID):
			return false
		}
		r.log.Warn("revocations are not read yet; it is tried again", "error", err)
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return false
		}
	}
}

// reads says whether the partition is still that of the topic.
func (r *revocations) reads(p consumer.Partition, topicID [16]byte) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	part := r.partitions[p]
	return part != nil && part.topicID == topicID
}

func (r *revocations) set(p consumer.Partition, topicID [16]byte, rec *consumer.Record) {
	at := auth.Place{Topic: topicID, Partition: p.ID, Offset: rec.Offset, Time: rec.Time}
	if err := r.SetRecord(string(rec.Key), rec.Value, at); err != nil {
		r.errors.WithLabelValues("invalid").Inc()
		r.log.Error("a record is no revocation", "topic", p.Topic, "partition", p.ID, "offset", rec.Offset, "error", err)
	}
}

// Deliver implements [consumer.Sink].
func (r *revocations) Deliver(p consumer.Partition, records []consumer.Record, next int64) {
	r.mu.Lock()
	part := r.partitions[p]
	r.mu.Unlock()
	if part == nil { // it has ended
		return
	}
	for i := range records {
		r.set(p, part.topicID, &records[i])
	}
	r.mu.Lock()
	part.live = next
	r.mu.Unlock()
	if len(records) > 0 {
		r.endStreams()
	}
}

// endStreams ends those whose tokens hold no more.
func (r *revocations) endStreams() {
	r.mu.Lock()
	streams := r.streams
	r.mu.Unlock()
	streams.End(stream.ErrRevoked, func(v stream.Viewer) bool { return r.IsRevoked(v.User, v.TokenID, v.IssuedAt) })
}

// Gap implements [consumer.Sink].
func (r *revocations) Gap(p consumer.Partition, gap consumer.Gap) {
	reason := "gap"
	if gap.Reason == consumer.GapUnreadable {
		reason = "unreadable"
	}
	r.errors.WithLabelValues(reason).Inc()
	r.log.Error("revocations are lost", "topic", p.Topic, "partition", p.ID, "from", gap.From, "to", gap.To, "reason", gap.Reason)
	r.mu.Lock()
	defer r.mu.Unlock()
	if part := r.partitions[p]; part != nil {
		part.live, part.until = gap.To, -1 // the log may be shorter now
	}
}

// End implements [consumer.Sink].
func (r *revocations) End(p consumer.Partition) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.partitions, p)
}
