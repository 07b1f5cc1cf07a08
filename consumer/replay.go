package consumer

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

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
			r.requests = append(r.requests, &rangeRequest{replay: r, Range: &ranges[i], user: user, to: ranges[i].To})
		}
	}
	if r.left = len(r.requests); r.left == 0 {
		return
	}
	for _, q := range r.requests {
		if route := c.routeOf(q.Topic); route != nil {
			c.scans.add(logID{q.Partition, q.TopicID}, route, q)
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
	requests []*rangeRequest
	done     chan struct{} // closed when all are over

	mu   sync.Mutex // guards the ranges and what follows
	left int        // requests that are not over
}

// rangeRequest is one of its ranges.
type rangeRequest struct {
	*replay
	*Range
	user  string
	to    int64
	ended bool
}

// offer hands over a record that is for the request's user, unless it had it.
func (r *rangeRequest) offer(rec *Record) {
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
func (r *rangeRequest) advance(next int64) {
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
func (r *rangeRequest) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.end(err)
}

// end is called with r.mu held.
func (r *rangeRequest) end(err error) {
	if r.ended {
		return
	}
	r.ended, r.Err = true, err
	if r.left--; r.left == 0 {
		close(r.done)
	}
}

func (r *rangeRequest) position() (next int64, ended bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.Next, r.ended
}
