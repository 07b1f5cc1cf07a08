package consumer

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"herald/consumer/batch"
	"herald/consumer/broker"
)

// chunkSize is how many records are handed over at a time.
const chunkSize = 512

// scratch is what a shard's goroutine uses again for each partition.
type scratch struct {
	records []Record
	batches batch.Reader
}

// deliver deals with an answer to a fetch of the asked offsets. It returns false unless all of it
// were records to go on behind.
func (r *reader) deliver(s *shard, feeds map[topicIDPartition]*feed, res *kmsg.FetchResponse, asked map[topicIDPartition]int64) bool {
	steady := true
	for i := range res.Topics {
		t := &res.Topics[i]
		for j := range t.Partitions {
			at := topicIDPartition{t.TopicID, t.Partitions[j].Partition}
			f := feeds[at]
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
func (r *reader) partition(s *shard, f *feed, part *kmsg.FetchResponseTopicPartition) bool {
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
func (r *reader) records(s *shard, f *feed, part *kmsg.FetchResponseTopicPartition) error {
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
		if len(list) > 0 && (!more || len(list) == chunkSize || b.MustDropRecords()) || !more && b.NextOffset() > f.next {
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
func (r *reader) unreadable(f *feed, err *UnreadableError) {
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
func (r *reader) leaveOut(f *feed, bad *UnreadableError) {
	f.tries = 0
	r.consumer.tellUnreadable(bad)
	r.gap(f, bad.Next, GapUnreadable)
}

func (c *Consumer) tellUnreadable(bad *UnreadableError) {
	c.log.Error("records cannot be read and are left out", "topic", bad.Topic, "partition", bad.ID, "offset", bad.Offset, "next", bad.Next, "error", bad.err)
}

// gap goes on at an offset and tells what that leaves out. f.mu is held.
func (r *reader) gap(f *feed, to int64, reason GapReason) {
	r.consumer.sink.Gap(f.Partition, Gap{From: f.next, To: to, Reason: reason})
	f.next, f.moved = to, time.Now()
}

// Kinds of what a broker may answer instead of records, as the metric's label has them.
const (
	errorMoved  = "moved"  // another broker has the partition, or will
	errorGone   = "gone"   // the topic was deleted, perhaps created again
	errorDenied = "denied" // an access control list
	errorOther  = "other"
)

func kindOf(err error) string {
	is := func(list ...error) bool {
		for _, e := range list {
			if errors.Is(err, e) {
				return true
			}
		}
		return false
	}
	switch {
	case is(kerr.NotLeaderForPartition, kerr.FencedLeaderEpoch, kerr.UnknownLeaderEpoch, kerr.ReplicaNotAvailable,
		kerr.LeaderNotAvailable, kerr.OffsetNotAvailable, kerr.KafkaStorageError):
		return errorMoved
	case is(kerr.UnknownTopicOrPartition, kerr.UnknownTopicID, kerr.InconsistentTopicID):
		return errorGone
	case is(kerr.TopicAuthorizationFailed, kerr.ClusterAuthorizationFailed):
		return errorDenied
	default:
		return errorOther
	}
}

// refused deals with a partition that its broker does not give us: the next metadata says where it
// is. The same error again is not logged again.
func (r *reader) refused(broker int32, f *feed, err error) {
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

// outOfRange finds out why the log does not hold the feed's next offset and tells the sink what
// was lost: retention overtook us, or the log was cut or replaced.
func (r *reader) outOfRange(f *feed) {
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

const stallAfter = 30 * time.Second // without progress a partition with records to read has stalled

// watch looks for partitions that do not move although they have records to read, which no error
// tells: it says so and has them read anew. It asks Kafka for the ends of those partitions only
// that have not moved for a while, users' own too.
func (r *reader) watch(ctx context.Context) {
	suspects := make(map[*feed]int64) // the next offset of those that had records to read at the last look
	for ctx.Err() == nil {
		pause(ctx, r.stallAfter/3)
		suspects = r.look(ctx, suspects)
	}
}

// look is one look of watch, which returns the next one's suspects.
func (r *reader) look(ctx context.Context, suspects map[*feed]int64) map[*feed]int64 {
	c := r.consumer
	quiet := make(map[*feed]int64)
	ask := make(broker.OffsetQuery)
	for _, f := range r.all() {
		next, moved := f.position()
		if time.Since(moved) < r.stallAfter {
			continue
		}
		quiet[f] = next
		if leader, _, err := c.leader(f.Partition); err == nil {
			ask.Add(leader, f.Partition, broker.LatestOffset)
		}
	}
	ends, err := c.cluster.ListOffsets(ctx, ask)
	if err != nil {
		c.log.Debug("list offsets of partitions that do not move", "partitions", len(quiet), "error", err)
	}
	still := make(map[*feed]int64)
	stalled := make(map[int32][]*feed) // by leader
	count := 0
	for f, next := range quiet {
		was, suspected := suspects[f]
		suspected = suspected && was == next
		end, ok := ends[f.Partition]
		if !ok { // Kafka's absence is told elsewhere
			if suspected {
				still[f] = next
			}
			continue
		}
		if now, _ := f.position(); end <= next || now != next {
			continue
		}
		still[f] = next
		f.mu.Lock()
		f.end = end
		f.mu.Unlock()
		if suspected {
			leader, _, _ := c.leader(f.Partition)
			stalled[leader] = append(stalled[leader], f)
			count++
		}
	}
	c.metrics.stalled.Set(float64(count))
	for leader, list := range stalled {
		f := list[0]
		c.log.Error("partitions do not move; they are read anew", "broker", leader, "partitions", len(list),
			"topic", f.Topic, "partition", f.ID, "offset", quiet[f], "end", ends[f.Partition])
		for _, f := range list {
			r.forsake(f)
			r.park(f)
		}
	}
	return still
}
