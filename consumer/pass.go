package consumer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"herald/consumer/batch"
)

// pass reads a part of a log and offers each record to all requests that want it. The goroutine of a zone uses
// one pass value for all of its passes, one after another:
//
//	         the zone's first request arrives
//	                        │
//	                        ▼
//	┌────────────────► gathering   if the next pass would read records again: waits for
//	│                       │      the other clients of a storm
//	│                       ▼
//	│   ┌──────────► waiting for a slot
//	│   │                   │      no request left: the goroutine ends
//	│   │ turnChunks        ▼
//	│   └─────────────── reading
//	│                       │
//	└───────────────────────┘      the pass has reached its end
type pass struct {
	zone
	ctx      context.Context //nolint:containedctx // the life of the zone's goroutine, not a request's
	scans    *scans
	route    *Route
	owner    []byte    // the user of a per-user topic, see [Route.owner]
	decoding *decoding // nil: the route has no format
	chunks   *chunkReader

	next     int64 // the offset to read next
	end      int64 // the pass ends before this offset
	low      int64 // the lowest offset at which a pass of this goroutine began
	high     int64 // the offset after all records that a pass of this goroutine has read
	begun    time.Time
	requests []*rangeRequest
	owners   map[string][]*rangeRequest // the requests by the owners of their records
	cost     float64                    // bytes that each request has had to pay for since the goroutine began
	batches  batch.Reader

	gathering gathering
}

func newPass(ctx context.Context, s *scans, z zone, route *Route) *pass {
	return &pass{
		zone: z, ctx: ctx, scans: s, route: route, owner: route.owner(z.Topic), decoding: s.decoders[route.Topic].of(z.Partition),
		chunks: newChunkReader(s.fetcher, z), low: math.MaxInt64,
	}
}

// run reads until the zone has no request left, or until the consumer stops.
func (p *pass) run() {
	slot := p.scans.slots[p.length]
	for {
		if p.hasEnded() {
			p.gather()
		}
		select {
		case slot <- struct{}{}: // a channel is fair: the zone that has waited longest is next
		case <-p.ctx.Done():
			p.stop()
			return
		}
		more := p.readTurn()
		<-slot
		if !more {
			return
		}
	}
}

// stop fails all requests of the zone.
func (p *pass) stop() {
	for p.putBack(); p.beginWithAll(); p.requests = nil {
		p.failAll(p.ctx.Err())
	}
}

// readTurn reads up to turnChunks chunks, at most to the end of the pass. It returns false when the zone has
// no request left.
func (p *pass) readTurn() bool {
	p.updateRequests()
	if p.hasEnded() {
		p.putBack()
		if !p.beginWithAll() {
			return false
		}
	}
	for chunks := 0; chunks < p.scans.turnChunks && !p.hasEnded(); chunks++ {
		next, err := p.readChunk()
		if err != nil {
			p.failAt(p.next, err)
		}
		p.next = next
		p.high = max(p.high, p.next)
		p.updateRequests()
	}
	return true
}

func (p *pass) hasEnded() bool { return len(p.requests) == 0 || p.next >= p.end }

// beginWithAll begins a pass with all requests of the zone. If there are none, it returns false, and the zone's
// goroutine must end.
func (p *pass) beginWithAll() bool {
	p.gathering = gathering{}
	p.join(p.scans.waiters.takeAll(p.zone))
	if len(p.requests) == 0 {
		return false
	}
	p.begin()
	return true
}

// begin begins a pass from the first to the last offset that its requests want now. A request that joins later and
// wants more gets the rest from the next pass. Otherwise the pass might never end, and requests that it has
// gone past would wait for ever.
func (p *pass) begin() {
	p.begun = time.Now()
	p.next, p.end = p.firstOffset(), p.lastOffset()
	p.low = min(p.low, p.next)
	p.scans.metrics.passes.Inc()
}

// updateRequests drops the requests that have ended and takes in waiting requests that the pass has not gone
// past.
func (p *pass) updateRequests() {
	before := len(p.requests)
	p.requests = slices.DeleteFunc(p.requests, func(r *rangeRequest) bool {
		_, ended := r.position()
		if ended {
			p.charge(r)
		}
		return ended
	})
	if len(p.requests) != before {
		left := p.requests
		p.requests, p.owners = nil, nil
		p.add(left)
	}
	if len(p.requests) > 0 {
		p.take(p.next, p.end)
		p.next = max(p.next, p.firstOffset())
	}
}

// putBack returns the pass's requests to the waiting ones.
func (p *pass) putBack() {
	for _, r := range p.requests {
		p.charge(r)
	}
	p.scans.waiters.putBack(p.zone, p.requests)
	p.requests, p.owners = nil, nil
}

// take takes the waiting requests that continue at the offset from or later, but before the offset to.
func (p *pass) take(from, to int64) { p.join(p.scans.waiters.take(p.zone, from, to)) }

func (p *pass) add(requests []*rangeRequest) {
	if p.owners == nil {
		p.owners = make(map[string][]*rangeRequest, len(requests))
	}
	p.requests = append(p.requests, requests...)
	for _, r := range requests {
		for _, owner := range r.owners {
			p.owners[owner] = append(p.owners[owner], r)
		}
	}
}

// firstOffset returns the lowest offset at which a request continues.
func (p *pass) firstOffset() int64 {
	first := int64(math.MaxInt64)
	for _, r := range p.requests {
		next, _ := r.position()
		first = min(first, next)
	}
	return first
}

// lastOffset returns the offset before which all requests end.
func (p *pass) lastOffset() int64 {
	last := int64(0)
	for _, r := range p.requests {
		last = max(last, r.until)
	}
	return last
}

// failAt ends the requests that want the offset at which the error occurred.
func (p *pass) failAt(offset int64, err error) {
	if lost, ok := errors.AsType[*OutOfRangeError](err); ok && offset < lost.Start {
		for _, r := range p.requests { // requests after the lost records continue
			if next, _ := r.position(); next < lost.Start {
				r.fail(&OutOfRangeError{Position{p.Partition, next}, lost.Start, lost.End})
			}
		}
		return
	}
	if bad, ok := errors.AsType[*UnreadableError](err); ok {
		p.scans.recordUnreadable(bad)
		for _, r := range p.requests {
			if next, _ := r.position(); next < bad.Next {
				r.fail(&UnreadableError{Position{p.Partition, max(next, bad.Offset)}, bad.Next, bad.err})
			}
		}
		return
	}
	_, outOfRange := errors.AsType[*OutOfRangeError](err)
	if !outOfRange && !errors.Is(err, ErrNotReady) {
		p.scans.recordFailure(p.ctx, fmt.Errorf("replay %s@%d: %w", p.Partition, offset, err))
	}
	p.failAll(err)
}

func (p *pass) failAll(err error) {
	for _, r := range p.requests {
		r.fail(err)
	}
}

// readChunk reads one chunk of the log, offers its records, and returns the offset after it. If Kafka has no
// records at present, it returns the offset at which the pass stands.
func (p *pass) readChunk() (next int64, err error) {
	end := p.lastOffset()
	for tries := 1; ; tries++ {
		k, err := p.chunks.read(p.ctx, p.next, end)
		if err != nil || k == nil {
			return p.next, err
		}
		next, err = p.offerRecords(k, p.next)
		if err == nil && next > p.next || errors.Is(err, ErrNotReady) {
			return next, err
		}
		if err == nil {
			err = fmt.Errorf("%w at offset %d: it has no batch that begins there", batch.ErrCorrupt, p.next)
		}
		old := errors.Is(err, batch.ErrOldMessageFormat) // another fetch would return the same
		if !old {
			p.chunks.cache.removeChunk(k)
		}
		if next > p.next {
			return next, nil // the records before the error were offered
		}
		if old || tries == readTries {
			return p.next, err
		}
	}
}

// offerRecords offers the records of the chunk from the offset on to the requests. It returns the offset after
// the last record offered; with an [*UnreadableError], the offset of the first record that cannot be read.
func (p *pass) offerRecords(k *chunk, offset int64) (next int64, failed error) {
	b := &p.batches
	b.Reset(k.batches, slices.Clone(k.aborted), offset)
	if !p.chunks.sparse {
		b.StopAtJump()
	}
	defer b.Close()
	var rec Record
	replayed, cost := 0, 0
	for {
		b.DropRecords()
		more, err := b.Next(&rec.Record)
		if err != nil {
			failed = &UnreadableError{Position{p.Partition, b.NextOffset()}, b.NextReadable(), err}
		}
		if next = b.NextOffset(); !more {
			break
		}
		leftOut := !p.route.Where.isMet(&rec.Record)
		if rec.decoding = p.decoding; !leftOut && p.route.UserPointer != "" && !p.route.isReady(&rec, nil) { // nobody knows whose record it is
			failed, next = ErrNotReady, rec.Offset
			break
		}
		replayed++
		cost += recordCost + len(rec.Key) + len(rec.Value)
		if leftOut {
			continue
		}
		p.route.setOwner(&rec, p.owner)
		if rec.Broadcast {
			for _, r := range p.requests {
				r.offer(&rec)
			}
			continue
		}
		for _, r := range p.owners[string(rec.User)] {
			r.offer(&rec)
		}
	}
	p.cost += float64(cost) / float64(len(p.requests))
	p.scans.metrics.replayed.Add(float64(replayed))
	for _, r := range p.requests {
		r.advance(next)
	}
	return next, failed
}
