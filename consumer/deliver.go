package consumer

import (
	"errors"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"herald/consumer/batch"
)

// deliverRecords is how many records are handed over at a time.
const deliverRecords = 512

// scratch is what a shard's goroutine uses again for each partition.
type scratch struct {
	records []Record
	batches batch.Reader
}

// deliver deals with an answer to a fetch of the asked offsets. It returns false unless all of it
// were records to go on behind.
func (r *liveReader) deliver(s *shard, partitions map[topicIDPartition]*livePartition, res *kmsg.FetchResponse, asked map[topicIDPartition]int64) bool {
	steady := true
	for i := range res.Topics {
		t := &res.Topics[i]
		for j := range t.Partitions {
			at := topicIDPartition{t.TopicID, t.Partitions[j].Partition}
			f := partitions[at]
			if f == nil {
				continue
			}
			// What was fetched ahead of records that could not be read is fetched again from there.
			next, _ := f.position()
			steady = asked[at] <= next && r.partition(s, f, &t.Partitions[j]) && steady
		}
	}
	return steady
}

// partition hands one partition's answer to the sink, or deals with its error and returns
// false.
func (r *liveReader) partition(s *shard, f *livePartition, part *kmsg.FetchResponseTopicPartition) bool {
	switch err := kerr.ErrorForCode(part.ErrorCode); {
	case err == nil && part.PreferredReadReplica >= 0 && part.PreferredReadReplica != s.broker:
		r.prefer(f, part.PreferredReadReplica)
	case err == nil:
		err := r.records(s, f, part)
		if unreadable, ok := errors.AsType[*UnreadableError](err); ok {
			r.unreadable(f, unreadable)
		}
		return err == nil
	case errors.Is(err, kerr.OffsetOutOfRange):
		if !r.forsake(f) { // a follower may lack what the leader has
			r.outOfRange(f)
		}
	default:
		r.refused(s.broker, f, err)
	}
	return false
}

// records hands the partition's records over. The error is an [*UnreadableError], and never for old
// message sets: to ask again would not help, so they are left out at once and what is behind them read.
func (r *liveReader) records(s *shard, f *livePartition, part *kmsg.FetchResponseTopicPartition) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil
	}
	if f.failed != "" {
		f.failed = ""
		r.consumer.allowed(f.Topic)
	}
	f.end = max(part.LastStableOffset, f.next)
	m := r.consumer.metrics
	m.liveBytes.Add(float64(len(part.RecordBatches)))
	b := &s.batches
	b.Reset(part.RecordBatches, part.AbortedTransactions, f.next)
	defer b.Close()
	list := s.records[:0]
	for {
		var rec Record
		more, err := b.Next(&rec.Record)
		if more {
			f.route.setOwner(&rec, f.owner)
			if f.route.UserPointer != "" && len(rec.User) == 0 && rec.Value != nil {
				m.ownerless.Inc()
			}
			list = append(list, rec)
		}
		if len(list) > 0 && (!more || len(list) == deliverRecords || b.MustDropRecords()) || !more && b.NextOffset() > f.next {
			r.consumer.sink.Deliver(f.Partition, list, b.NextOffset())
			f.next, f.moved, f.tries = b.NextOffset(), time.Now(), 0
			m.records.Add(float64(len(list)))
			clear(list) // they point into the response, which may be large
			b.DropRecords()
			s.records = list[:0]
			list = s.records
		}
		if err != nil {
			bad := &UnreadableError{Position{f.Partition, b.NextOffset()}, b.NextReadable(), err}
			if !errors.Is(err, batch.ErrOldMessageFormat) {
				return bad
			}
			m.errors.WithLabelValues("unreadable").Inc()
			r.leaveOut(f, bad)
			b.SkipTo(f.next)
			continue
		}
		if !more {
			return nil
		}
	}
}

// unreadable asks for the records once more or gives them up: a gap, so that those behind them
// arrive.
func (r *liveReader) unreadable(f *livePartition, err *UnreadableError) {
	c := r.consumer
	c.metrics.errors.WithLabelValues("unreadable").Inc()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return
	}
	if f.tries++; f.tries < readTries {
		r.park(f)
		return
	}
	r.leaveOut(f, err)
}

// leaveOut goes on behind records that cannot be read. f.mu is held.
func (r *liveReader) leaveOut(f *livePartition, bad *UnreadableError) {
	f.tries = 0
	r.consumer.tellUnreadable(bad)
	r.gap(f, bad.Next, GapUnreadable)
}

func (c *Consumer) tellUnreadable(bad *UnreadableError) {
	c.log.Error("records cannot be read and are left out", "topic", bad.Topic, "partition", bad.ID, "offset", bad.Offset, "next", bad.Next, "error", bad.err)
}

// gap goes on at an offset and tells what that leaves out. f.mu is held.
func (r *liveReader) gap(f *livePartition, to int64, reason GapReason) {
	r.consumer.sink.Gap(f.Partition, Gap{From: f.next, To: to, Reason: reason})
	f.next, f.moved = to, time.Now()
}

// refused deals with a partition that its broker does not give us: the next metadata says where it
// is. The same error again is not logged again.
func (r *liveReader) refused(broker int32, f *livePartition, err error) {
	c := r.consumer
	kind := kindOf(err)
	c.metrics.errors.WithLabelValues(kind).Inc()
	f.mu.Lock()
	again := f.failed == err.Error()
	f.failed = err.Error()
	next := f.next
	f.mu.Unlock()
	if kind == errorDenied {
		c.denied(f.Topic, err)
	} else if !again {
		level := slog.LevelWarn
		if kind == errorMoved || kind == errorGone {
			level = slog.LevelInfo
		}
		r.tellRefused(refusal{broker, level, err.Error()}, Position{f.Partition, next})
	}
	r.forsake(f)
	r.park(f)
}

// outOfRange finds out why the log does not hold the partition's next offset and tells the sink what
// was lost: retention overtook us, or the log was cut or replaced.
func (r *liveReader) outOfRange(f *livePartition) {
	c := r.consumer
	c.metrics.errors.WithLabelValues("out-of-range").Inc()
	start, end, err := c.Range(r.ctx, f.Partition, f.topicID)
	if err != nil {
		r.park(f)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed || f.next >= start && f.next <= end {
		return
	}
	to, reason := start, GapRetention
	if f.next > end {
		to, reason = end, GapUnknownID
	}
	c.log.Warn("records are lost", "topic", f.Topic, "partition", f.ID, "from", f.next, "to", to, "reason", reason)
	r.gap(f, to, reason)
}
