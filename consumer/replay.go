package consumer

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"herald/consumer/batch"
)

// Range is a part of a partition's log that a replay reads again.
type Range struct {
	Partition
	TopicID [16]byte
	Next    int64 // the offset to begin at; after the replay, the offset to continue from
	To      int64 // the end of the range; the replay does not read the record at this offset

	// Values are the values of the topic's claim whose records the replay reads, if the topic's route has one
	// ([Route.Claim]). Without a value, it reads no record. In other topics, Values have no effect.
	Values []string

	// Err is why the replay ended before To; nil if fn ended it. It is ctx's error, an [*OutOfRangeError],
	// an [*UnreadableError], [ErrRecreated] if the topic no longer has the id TopicID, [ErrNotReady], or what
	// Kafka answered. After any of these the range may be replayed again; after an UnreadableError, from its Next.
	Err error
}

// Replay calls fn for each record of the ranges that is for user, for everyone or for a value of the range, in the order
// of offsets within a partition. If fn returns false, all ranges end, and the range of the record ends before it. Each
// range is of another partition. A range whose Next is not before its To ends at once.
//
// Records that the tail holds come from memory. Older records come from Kafka: one pass over a partition's
// log serves all replays that wait for it (scan.go). fn is called by one goroutine at a time, and not after
// Replay has returned. fn must not wait.
func (c *Consumer) Replay(ctx context.Context, user string, ranges []Range, fn func(*Range, *Record) bool) {
	var open []*Range
	for i := range ranges {
		if ranges[i].Next < ranges[i].To {
			open = append(open, &ranges[i])
		}
	}
	c.metrics.replays.Add(float64(len(open)))
	for len(open) > 0 {
		r := &replay{fn: fn, done: make(chan struct{})}
		for _, at := range open {
			until, more := c.reader.replayTail(at, user, fn)
			if !more {
				return
			}
			if at.Err == nil && at.Next < at.To {
				r.requests = append(r.requests, &rangeRequest{replay: r, Range: at, user: user, until: until})
			}
		}
		open = c.scans.replay(ctx, user, r)
	}
}

// replayTail passes the records of a range to fn if the tail holds all of the range. Otherwise it calls fn for
// no record, and returns the offset up to which the records must come from Kafka. more is false if fn returned
// false.
func (r *liveReader) replayTail(at *Range, user string, fn func(*Range, *Record) bool) (until int64, more bool) {
	p := r.livePartition(at.Partition)
	if p == nil || p.topicID != at.TopicID {
		return at.To, true
	}
	rec := Record{Claim: p.route.Claim, Broadcast: p.route.Kind == Broadcast}
	var owners [][]byte
	for _, owner := range p.route.ownersFor(user, at) {
		owners = append(owners, []byte(owner))
	}
	more = true
	count := 0
	next, held := p.tail.Read(owners, at.Next, at.To, func(owner []byte, found *batch.Record) bool {
		rec.Record, rec.User, rec.decoding = *found, owner, p.decoding
		if !rec.isReady(nil) {
			at.Err = ErrNotReady
			return false
		}
		count++
		more = fn(at, &rec)
		return more
	})
	if !held {
		return olderEnd(at, p.tail.From()), true
	}
	r.metrics.tailReplays.Inc()
	r.metrics.replayed.Add(float64(count))
	at.Next = next
	return at.To, more
}

// olderEnd returns the offset up to which a range must come from Kafka, if the tail holds the records after the
// offset from, but [logtail.Log.Read] refused the range. This is the offset from if it divides the range.
// Otherwise it is the end of the range: the tail holds none of the range, or it holds more of the owners' records
// than Read serves.
func olderEnd(at *Range, from int64) int64 {
	if from > at.Next && from < at.To {
		return from
	}
	return at.To
}

// replay is the part of a call of [Consumer.Replay] that passes serve.
type replay struct {
	fn       func(*Range, *Record) bool
	requests []*rangeRequest
	done     chan struct{} // closed when all requests have ended

	mu      sync.Mutex // guards the Range and the field ended of each request, and the fields below; held while fn is called
	open    int        // the number of requests that have not ended
	stopped bool       // fn has returned false
}

// replay serves the requests and waits until all of them have ended, or until ctx ends. It returns the ranges
// that are not at their end yet, although their request has ended: the rest may be in the tail.
func (s *scans) replay(ctx context.Context, user string, r *replay) (left []*Range) {
	if r.open = len(r.requests); r.open == 0 {
		return nil
	}
	s.waitInDebt(ctx, user)
	for _, q := range r.requests {
		if ctx.Err() != nil { // the client has left while it waited: no pass begins for it
			break
		}
		if route := s.fetcher.topics.routeOf(q.Topic); route != nil {
			q.owners = route.ownersFor(user, q.Range)
			s.addRequest(logID{q.Partition, q.TopicID}, route, q)
		} else {
			q.fail(errors.New("topic is not read here"))
		}
	}
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
		} else if !r.stopped && q.Next < q.To {
			left = append(left, q.Range)
		}
	}
	return left
}

// rangeRequest asks for the records of a range that the tail does not hold.
type rangeRequest struct {
	*replay
	*Range
	user   string   // pays for the passes
	owners []string // whose records the request is for, see [Route.ownersFor]
	until  int64    // the request ends before this offset: the start of the tail, or the end of the Range
	ended  bool

	joinedAt float64 // pass.cost when the request joined the pass; only the goroutine of the zone uses it
}

// offer passes to fn a record of one of the request's owners, unless the request has ended or is past the record.
func (r *rangeRequest) offer(rec *Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.ended || rec.Offset < r.Next || rec.Offset >= r.until:
	case !rec.isReady(nil):
		r.Next = rec.Offset
		r.endLocked(ErrNotReady)
	case r.fn(r.Range, rec):
		r.Next = rec.Offset + 1
	default:
		r.Next, r.stopped = rec.Offset, true
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
	if r.Next = max(r.Next, min(next, r.until)); r.Next == r.until {
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
