package consumer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"herald/consumer/broker"
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

// AfterAll is where [Consumer.Since] finds the first record of a partition that has none so young: behind
// all there are.
const AfterAll int64 = math.MaxInt64

// Since returns, for each of the partitions, the offset of the first record that was written at the time
// or later (by the records' timestamps), or with the zero time the first one retained. Those of topics
// that are not read here, or do not exist, are left out, and so are those for which Kafka has no answer,
// such as those without a leader: the error is that of one of the latter, and the others' offsets are good.
func (c *Consumer) Since(ctx context.Context, partitions []Partition, t time.Time) (map[Partition]int64, error) {
	which := int64(broker.EarliestOffset)
	if !t.IsZero() {
		which = max(0, t.UnixMilli())
	}
	ask := make(broker.OffsetQuery)
	c.mu.Lock()
	for _, p := range partitions {
		if known := c.topics[p.Topic]; known != nil && !known.missing && int(p.ID) < len(known.leaders) {
			ask.Add(known.leaders[p.ID], p, which)
		}
	}
	c.mu.Unlock()
	var leaderless error
	for p := range ask[-1] {
		leaderless = fmt.Errorf("partition %s has no leader", p)
	}
	delete(ask, -1)
	first, err := c.cluster.ListOffsets(ctx, ask)
	for p, offset := range first {
		if offset < 0 {
			first[p] = AfterAll
		}
	}
	return first, cmp.Or(err, leaderless)
}

// Starts is Since of all partitions of the sources, with the zero time.
func (c *Consumer) Starts(ctx context.Context, sources []UserTopic) (map[Partition]int64, error) {
	var partitions []Partition
	c.mu.Lock()
	for i := range sources {
		if known := c.topics[sources[i].Topic]; known != nil {
			for id := range known.leaders {
				partitions = append(partitions, Partition{Topic: known.name, ID: int32(id)})
			}
		}
	}
	c.mu.Unlock()
	return c.Since(ctx, partitions, time.Time{})
}

// Confirm asks Kafka whether topicID is that of topic. The error is [ErrRecreated] if it is not, or
// what Kafka answered; it may be asked again.
func (c *Consumer) Confirm(ctx context.Context, topic string, topicID [16]byte) error {
	select {
	case c.confirms <- struct{}{}:
		defer func() { <-c.confirms }()
	case <-ctx.Done():
		return ctx.Err()
	}
	found, err := c.cluster.FetchMetadata(ctx, []string{topic}, false)
	if err != nil {
		return err
	}
	m, ok := found[topic]
	if ok && m.Err == nil && m.ID == topicID {
		return nil
	}
	c.doubt(topic)
	return errors.Join(ErrRecreated, m.Err)
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
	return c.cluster.ListRange(ctx, leader, p)
}

// ErrRecreated says that a topic is not the one that was asked for: it was deleted and created again.
var ErrRecreated = errors.New("topic was deleted and created again")

// Range is a part of a partition's log to be read again.
type Range struct {
	Partition
	TopicID [16]byte
	Next    int64 // the offset to begin at; when it is over, to go on from
	To      int64 // the offset to end before

	// Err is why it ended before To; nil if fn ended it. It is ctx's error, an [*OutOfRangeError], an
	// [*UnreadableError], [ErrRecreated] if TopicID is not that of the topic any more, or what Kafka
	// answered. After any of them the range may be asked for again, after an UnreadableError from its
	// Next.
	Err error
}

// Replay calls fn for each record of the ranges that is for user or for everyone, in offset order
// within a partition, until fn returns false: that ends all ranges, the one in question at the
// record. Ranges are of different partitions; one whose Next is not before its To is over.
//
// All who wait for one partition are served together (scan.go). fn is called by one goroutine at a
// time while Replay waits, and must not wait itself.
func (c *Consumer) Replay(ctx context.Context, user string, ranges []Range, fn func(*Range, *Record) bool) {
	r := &replay{fn: fn, done: make(chan struct{})}
	for i := range ranges {
		if ranges[i].Next < ranges[i].To {
			r.requests = append(r.requests, &request{replay: r, Range: &ranges[i], user: user, to: ranges[i].To})
		}
	}
	if r.left = len(r.requests); r.left == 0 {
		return
	}
	for _, q := range r.requests {
		if route := c.routeOf(q.Topic); route != nil {
			c.scans.add(log{q.Partition, q.TopicID}, route, q)
		} else {
			q.fail(errors.New("topic is not read here"))
		}
	}
	c.metrics.replays.Add(float64(len(r.requests)))
	select {
	case <-r.done:
	case <-ctx.Done():
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, q := range r.requests { // fn is not called any more
		q.end(ctx.Err())
		if q.Err != nil {
			q.Err = fmt.Errorf("replay %s@%d: %w", q.Partition, q.Next, q.Err)
		}
	}
}

// replay is one call of Replay.
type replay struct {
	fn       func(*Range, *Record) bool
	requests []*request
	done     chan struct{} // closed when all are over

	mu   sync.Mutex // guards the ranges and what follows
	left int        // requests that are not over
}

// request is one of its ranges.
type request struct {
	*replay
	*Range
	user  string
	to    int64
	ended bool
}

// offer hands over a record that is for the request's user, unless it had it.
func (r *request) offer(rec *Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.ended || rec.Offset < r.Next || rec.Offset >= r.to:
	case r.fn(r.Range, rec):
		r.Next = rec.Offset + 1
	default:
		r.Next = rec.Offset
		for _, q := range r.requests {
			q.end(nil)
		}
	}
}

// advance notes that the log was read up to next.
func (r *request) advance(next int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return
	}
	if r.Next = max(r.Next, min(next, r.to)); r.Next == r.to {
		r.end(nil)
	}
}

// fail ends the request with an error.
func (r *request) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.end(err)
}

// end is called with r.mu held.
func (r *request) end(err error) {
	if r.ended {
		return
	}
	r.ended, r.Err = true, err
	if r.left--; r.left == 0 {
		close(r.done)
	}
}

func (r *request) position() (next int64, ended bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.Next, r.ended
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
