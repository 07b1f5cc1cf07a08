package consumer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"
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

// Since returns, for each partition of the sources, the offset of the first record that was written at
// the time or later (by the records' timestamps), or with the zero time the first one retained.
// Partitions without such a record, and topics that are not read here, are left out.
func (c *Consumer) Since(ctx context.Context, sources []Source, t time.Time) (map[Partition]int64, error) {
	which := int64(offsetEarliest)
	if !t.IsZero() {
		which = max(0, t.UnixMilli())
	}
	ask := make(offsetsAsked)
	c.mu.Lock()
	for i := range sources {
		name := sources[i].Topic
		known := c.topics[name]
		if known == nil || known.missing {
			continue
		}
		for id, leader := range known.leaders {
			ask.add(leader, Partition{name, int32(id)}, which)
		}
	}
	c.mu.Unlock()
	if ask[-1] != nil {
		return nil, errors.New("a partition has no leader")
	}
	first, err := c.cluster.listAllOffsets(ctx, ask)
	if err != nil {
		return nil, err
	}
	maps.DeleteFunc(first, func(_ Partition, offset int64) bool { return offset < 0 })
	return first, nil
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
// All who wait for one partition are served together (scan.go). fn is called while Replay waits, and
// must not wait itself.
func (c *Consumer) Replay(ctx context.Context, p Partition, topicID [16]byte, user string, from, to int64, fn func(*Record) bool) (next int64, err error) {
	if from >= to {
		return from, nil
	}
	route := c.routeOf(p.Topic)
	if route == nil {
		return from, fmt.Errorf("replay %s: topic is not read here", p)
	}
	c.metrics.replays.Inc()
	r := &request{user: user, next: from, to: to, fn: fn, done: make(chan error, 1)}
	c.scans.add(log{p, topicID}, route, r)
	select {
	case err = <-r.done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true // fn is not called any more
	if err != nil {
		err = fmt.Errorf("replay %s@%d: %w", p, r.next, err)
	}
	return r.next, err
}

// request is one Replay.
type request struct {
	user string
	to   int64
	fn   func(*Record) bool
	done chan error // says once that it is over

	mu    sync.Mutex
	next  int64
	ended bool
}

// offer hands over a record that is for the request's user, unless it had it.
func (r *request) offer(rec *Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.ended || rec.Offset < r.next || rec.Offset >= r.to:
	case r.fn(rec):
		r.next = rec.Offset + 1
	default:
		r.next = rec.Offset
		r.end(nil)
	}
}

// advance notes that the log was read up to next.
func (r *request) advance(next int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return
	}
	if r.next = max(r.next, min(next, r.to)); r.next == r.to {
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
	if !r.ended {
		r.ended = true
		r.done <- err
	}
}

func (r *request) position() (next int64, ended bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.next, r.ended
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
