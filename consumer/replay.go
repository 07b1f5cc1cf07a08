package consumer

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// Range is a part of a partition's log that a replay reads again.
type Range struct {
	Partition
	TopicID [16]byte
	Next    int64 // the offset to begin at; after the replay, the offset to continue from
	To      int64 // the end of the range; the replay does not read the record at this offset

	// Err is why the replay ended before To; nil if fn ended it. It is ctx's error, an [*OutOfRangeError],
	// an [*UnreadableError], [ErrRecreated] if the topic no longer has the id TopicID, or what Kafka
	// answered. After any of these the range may be replayed again; after an UnreadableError, from its Next.
	Err error
}

// Replay calls fn for each record of the ranges that is for user or for everyone, in the order of offsets
// within a partition. If fn returns false, all ranges end, and the range of the record ends before it. Each
// range is of another partition. A range whose Next is not before its To ends at once.
//
// One pass over a partition's log serves all replays that wait for it (scan.go). One goroutine at a time
// calls fn, only while Replay waits, and fn must not wait itself.
func (c *Consumer) Replay(ctx context.Context, user string, ranges []Range, fn func(*Range, *Record) bool) {
	r := &replay{fn: fn, done: make(chan struct{})}
	for i := range ranges {
		if ranges[i].Next < ranges[i].To {
			r.requests = append(r.requests, &rangeRequest{replay: r, Range: &ranges[i], user: user, to: ranges[i].To})
		}
	}
	if r.open = len(r.requests); r.open == 0 {
		return
	}
	for _, q := range r.requests {
		if route := c.topics.routeOf(q.Topic); route != nil {
			c.scans.addRequest(logID{q.Partition, q.TopicID}, route, q)
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
	for _, q := range r.requests { // from here on nobody calls fn
		q.endLocked(ctx.Err())
		if q.Err != nil {
			q.Err = fmt.Errorf("replay %s@%d: %w", q.Partition, q.Next, q.Err)
		}
	}
}

// replay is one call of [Consumer.Replay].
type replay struct {
	fn       func(*Range, *Record) bool
	requests []*rangeRequest
	done     chan struct{} // closed when all requests have ended

	mu   sync.Mutex // guards the ranges, the requests' ended, and open; held while fn is called
	open int        // the number of requests that have not ended
}

// rangeRequest is one range of a replay.
type rangeRequest struct {
	*replay
	*Range
	user  string
	to    int64
	ended bool
}

// offer passes to fn a record for the request's user, unless the request has ended or is past the record.
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
			q.endLocked(nil)
		}
	}
}

// advance notes that all records before next were offered. The request ends when it reaches its end.
func (r *rangeRequest) advance(next int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return
	}
	if r.Next = max(r.Next, min(next, r.to)); r.Next == r.to {
		r.endLocked(nil)
	}
}

// fail ends the request with an error.
func (r *rangeRequest) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.endLocked(err)
}

func (r *rangeRequest) endLocked(err error) {
	if r.ended {
		return
	}
	r.ended, r.Err = true, err
	if r.open--; r.open == 0 {
		close(r.done)
	}
}

func (r *rangeRequest) position() (next int64, ended bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.Next, r.ended
}
