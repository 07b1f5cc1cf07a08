package consumer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// OutOfRangeError says that a partition does not hold the offset asked for: it was deleted by
// retention (Offset < Start) or never written in this log (Offset > End).
type OutOfRangeError struct {
	Position
	Start int64 // the first offset retained
	End   int64 // the high watermark
}

func (e *OutOfRangeError) Error() string {
	return fmt.Sprintf("offset %d of %s is not in the log, which holds %d to %d", e.Offset, e.Partition, e.Start, e.End)
}

// Confirm asks Kafka whether topicID is that of topic. The error is [ErrRecreated] if it is not, or
// what Kafka answered; it may be asked again.
func (c *Consumer) Confirm(ctx context.Context, topic string, topicID [16]byte) error {
	select {
	case c.replays <- struct{}{}:
		defer func() { <-c.replays }()
	case <-ctx.Done():
		return ctx.Err()
	}
	found, err := c.cluster.metadata(ctx, []string{topic}, false)
	if err != nil {
		return err
	}
	m, ok := found[topic]
	if ok && m.err == nil && m.id == topicID {
		return nil
	}
	c.refresh()
	return errors.Join(ErrRecreated, m.err)
}

// Range returns the first offset that p retains and its end, the high watermark: what the log holds,
// whether or not transactions in it are still open. The error is
// [ErrRecreated] if topicID is not that of the topic any more, or what Kafka answered.
func (c *Consumer) Range(ctx context.Context, p Partition, topicID [16]byte) (start, end int64, err error) {
	leader, id, err := c.leader(p)
	if err != nil {
		return 0, 0, err
	}
	if id != topicID {
		return 0, 0, ErrRecreated
	}
	if start, err = c.cluster.listOffset(ctx, leader, p, offsetEarliest, readUncommitted); err != nil {
		return 0, 0, err
	}
	if end, err = c.cluster.listOffset(ctx, leader, p, offsetLatest, readUncommitted); err != nil {
		return 0, 0, err
	}
	return start, end, nil
}

// ErrRecreated says that a topic is not the one that was asked for: it was deleted and created again.
var ErrRecreated = errors.New("topic was deleted and created again")

// Replay calls fn for each record of p from offset from and before to that is for user or for
// everyone, in offset order, until fn returns false. It returns the offset to go on from: to, or
// that of the record that fn refused, or how far it came before an error. The error is ctx's, an
// [*OutOfRangeError], an [*UnreadableError], [ErrRecreated] if topicID is not that of the topic any
// more, or what Kafka answered; after any of them Replay may be called again, after an
// UnreadableError from its Next.
//
// At most [Config.ReplayConcurrency] replays read at a time; others wait for their turn.
func (c *Consumer) Replay(ctx context.Context, p Partition, topicID [16]byte, user string, from, to int64, fn func(*Record) bool) (next int64, err error) {
	select {
	case c.replays <- struct{}{}:
		defer func() { <-c.replays }()
	case <-ctx.Done():
		return from, ctx.Err()
	}
	c.metrics.replays.Inc()
	route := c.routeOf(p.Topic)
	if route == nil {
		return from, fmt.Errorf("replay %s: topic is not read here", p)
	}
	scan := replay{consumer: c, Partition: p, topicID: topicID, route: route, owner: route.owner(p.Topic), user: user, next: from, to: to, fn: fn, follower: -1}
	for idle, tries := 0, 1; scan.next < to && !scan.stopped; {
		before := scan.next
		err := scan.fetch(ctx)
		if _, unreadable := errors.AsType[*UnreadableError](err); unreadable && tries < readTries {
			tries++
			continue
		}
		if scan.next > before || scan.stopped {
			idle = 0
		} else if scan.throttled > 0 && err == nil {
			pause(ctx, scan.throttled)
			err = ctx.Err()
		} else if idle++; err == nil && idle%3 == 0 { // is there as much as was read once?
			start, end, rangeErr := c.Range(ctx, p, topicID)
			if err = rangeErr; err == nil && end < to {
				err = &OutOfRangeError{Position: Position{p, to}, Start: start, End: end}
			}
		}
		if err != nil {
			return scan.next, c.replayFailed(ctx, fmt.Errorf("replay %s@%d: %w", p, scan.next, err))
		}
	}
	return scan.next, nil
}

// replayFailed counts an error of a replay that is Kafka's, logs it, but at most once a second for
// all of them, and returns it.
func (c *Consumer) replayFailed(ctx context.Context, err error) error {
	_, outOfRange := errors.AsType[*OutOfRangeError](err)
	if ctx.Err() != nil || outOfRange {
		return err
	}
	c.metrics.errors.WithLabelValues("replay").Inc()
	now := time.Now().Unix()
	if last := c.replayLogged.Load(); now > last && c.replayLogged.CompareAndSwap(last, now) {
		c.log.Warn("replay; it is tried again", "error", err)
	}
	return err
}

type replay struct {
	Partition
	consumer *Consumer
	topicID  [16]byte
	route    *Route
	owner    []byte // see Route.owner
	user     string
	next, to int64
	fn       func(*Record) bool
	stopped  bool

	follower int32 // where the leader says that it is nearer to read (KIP-392); -1: at the leader
	atLeader bool  // the follower was no good

	throttled time.Duration // by which a quota delays the next answer
}

// fetch reads one response's worth of the range, or finds out where to read it.
func (r *replay) fetch(ctx context.Context) error {
	from, near := r.next, r.follower >= 0
	err := r.fetchOnce(ctx)
	if near && ctx.Err() == nil && !r.stopped && (err != nil || r.next == from) {
		r.follower, r.atLeader = -1, true // it may be away, or lack what the leader has
		err = nil
	}
	return err
}

// fetchOnce is one request of fetch.
func (r *replay) fetchOnce(ctx context.Context) error {
	broker, topicID, err := r.consumer.leader(r.Partition)
	if err != nil {
		return err
	}
	if topicID != r.topicID {
		return ErrRecreated
	}
	req := r.consumer.fetchRequest(0, -1) // no session
	if r.follower >= 0 {
		broker = r.follower
	}
	if r.atLeader {
		req.Rack = ""
	}
	topic := kmsg.NewFetchRequestTopic()
	topic.TopicID = topicID
	topic.Partitions = append(topic.Partitions, fetchPartition(r.ID, r.next))
	req.Topics = append(req.Topics, topic)

	buf, _ := r.consumer.buffers.Get().(*[]byte)
	if buf == nil {
		buf = new([]byte)
	}
	deadline, cancel := context.WithTimeout(ctx, fetchMaxWait+fetchSlack+r.throttled)
	defer cancel()
	res, err := r.consumer.cluster.request(deadline, broker, req, buf)
	if err != nil {
		if ctx.Err() == nil {
			r.consumer.refresh()
		}
		return err // buf may still be written to: it is not put back
	}
	defer r.consumer.buffers.Put(buf)
	fetched := res.(*kmsg.FetchResponse)
	r.throttled = throttle(fetched)
	if err := kerr.ErrorForCode(fetched.ErrorCode); err != nil {
		return err
	}
	for i := range fetched.Topics {
		for j := range fetched.Topics[i].Partitions {
			if err := r.partition(ctx, &fetched.Topics[i].Partitions[j]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *replay) partition(ctx context.Context, part *kmsg.FetchResponseTopicPartition) error {
	err := kerr.ErrorForCode(part.ErrorCode)
	if errors.Is(err, kerr.OffsetOutOfRange) {
		start, end, err := r.consumer.Range(ctx, r.Partition, r.topicID)
		if err != nil {
			return err
		}
		return &OutOfRangeError{Position: Position{r.Partition, r.next}, Start: start, End: end}
	}
	if err != nil {
		r.consumer.refresh()
		return err
	}
	if part.PreferredReadReplica >= 0 && r.follower < 0 && !r.atLeader {
		r.follower = part.PreferredReadReplica
		return nil
	}
	b := batches{data: part.RecordBatches, aborted: part.AbortedTransactions, next: r.next}
	defer b.close()
	r.consumer.metrics.replayBytes.Add(float64(len(part.RecordBatches)))
	var rec Record
	for b.next < r.to {
		b.headers = b.headers[:0]
		more, err := b.read(&rec)
		if err != nil {
			return &UnreadableError{Position{r.Partition, b.next}, b.behind(), err}
		}
		if !more || rec.Offset >= r.to {
			break
		}
		r.consumer.metrics.replayed.Inc()
		if !r.wants(&rec) {
			r.next = b.next
			continue
		}
		if !r.fn(&rec) {
			r.next, r.stopped = rec.Offset, true
			return nil
		}
		r.next = b.next
	}
	r.next = min(b.next, r.to)
	return ctx.Err()
}

// wants says whether the record is the user's, and marks it as the live way does.
func (r *replay) wants(rec *Record) bool {
	r.route.own(rec, r.owner)
	return rec.Broadcast || string(rec.User) == r.user
}

// pause waits before trying again; it returns early when ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
