package consumer

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"herald/consumer/batch"
)

// pass reads a part of a log and offers its records to all requests whose range includes them. A zone's
// goroutine uses one pass value for one pass after the other.
type pass struct {
	zone
	scans  *scans
	route  *Route
	owner  []byte // the user of a per-user topic, see [Route.owner]
	chunks *chunkReader

	next     int64 // the offset to read next
	end      int64 // the pass ends before this offset
	low      int64 // the lowest offset of all passes so far
	high     int64 // the offset after the highest one read so far
	requests []*rangeRequest
	users    map[string][]*rangeRequest // the requests by user
	batches  batch.Reader

	begun      time.Time
	gathering  time.Time     // when the zone began to wait for other requests; zero: it does not wait
	gathered   int           // how many requests have come at offsets that the last pass has gone past
	lastChange time.Time     // when gathered last changed
	quiet      time.Duration // the wait ends when no request has come for this long
}

// runTurn waits for a slot and then reads up to turnChunks chunks, at most to the end of the pass. It returns
// false when the zone has no request left.
func (p *pass) runTurn() bool {
	if p.hasEnded() {
		p.gather()
	}
	slot := p.scans.slots[p.distance]
	select {
	case slot <- struct{}{}: // a channel is fair: the zone that has waited longest is next
		defer func() { <-slot }()
	case <-p.scans.ctx.Done():
		for p.beginWithAll() {
			p.failAll(p.scans.ctx.Err())
		}
		return false
	}
	p.updateRequests()
	if p.hasEnded() && !p.beginWithAll() {
		return false
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

// gather waits for the other clients of a storm if the next pass would read records again that memory does
// not hold. It returns early, with a pass begun, if some requests want only records that no pass has read
// yet: these requests do not wait for longer than calm.
func (p *pass) gather() {
	if p.gathering.IsZero() {
		p.gathering = time.Now()
		p.quiet = max(p.scans.calm, p.gathering.Sub(p.begun))
	}
	for ; p.scans.ctx.Err() == nil && time.Since(p.gathering) < p.scans.patience; pause(p.scans.ctx, p.scans.calm) {
		p.scans.mu.Lock()
		p.retakeLocked(p.high)
		behind := slices.Clone(p.scans.waiting[p.zone])
		p.scans.mu.Unlock()
		if len(behind) == 0 || p.isCached(firstOffset(behind)) {
			p.end = p.next // the next pass takes all requests
			return
		}
		if len(p.requests) > 0 {
			p.begin()
			return
		}
		if len(behind) != p.gathered {
			p.gathered, p.lastChange = len(behind), time.Now()
		}
		if time.Since(p.lastChange) >= p.quiet {
			return
		}
	}
}

// isCached reports whether memory holds everything from the offset to high, as far as passes have read it.
func (p *pass) isCached(offset int64) bool {
	for offset = max(offset, p.low); offset < p.high; {
		k := p.chunks.findCached(offset)
		if k == nil {
			return false
		}
		offset = k.next
	}
	return true
}

// beginWithAll begins a pass with all requests of the zone. If there are none, the zone ends, and it returns
// false.
func (p *pass) beginWithAll() bool {
	p.scans.mu.Lock()
	defer p.scans.mu.Unlock()
	p.gathering, p.gathered = time.Time{}, 0
	p.retakeLocked(0)
	if len(p.requests) == 0 {
		delete(p.scans.waiting, p.zone)
		return false
	}
	p.begin()
	return true
}

// begin begins a pass from the first to the last offset that its requests want now. A request that joins
// later and wants more gets the rest from the next pass. Otherwise requests that the pass has
// gone past could wait for ever.
func (p *pass) begin() {
	p.begun = time.Now()
	p.next, p.end = firstOffset(p.requests), p.lastOffset()
	p.low = min(p.low, p.next)
	p.scans.metrics.passes.Inc()
}

// updateRequests drops the requests that have ended and takes in waiting requests that the pass has not gone
// past.
func (p *pass) updateRequests() {
	before := len(p.requests)
	p.requests = slices.DeleteFunc(p.requests, func(r *rangeRequest) bool { _, ended := r.position(); return ended })
	if len(p.requests) != before {
		p.users = make(map[string][]*rangeRequest, len(p.requests))
		for _, r := range p.requests {
			p.users[r.user] = append(p.users[r.user], r)
		}
	}
	if len(p.requests) == 0 {
		return
	}
	p.scans.mu.Lock()
	p.takeLocked(p.next, p.end)
	p.scans.mu.Unlock()
	p.next = max(p.next, firstOffset(p.requests))
}

// retakeLocked returns the pass's requests to the waiting ones and then takes all requests at the offset or
// after it. The lock of scans is held.
func (p *pass) retakeLocked(offset int64) {
	p.scans.waiting[p.zone] = append(p.scans.waiting[p.zone], p.requests...)
	p.requests, p.users = nil, make(map[string][]*rangeRequest)
	p.takeLocked(offset, math.MaxInt64)
}

// takeLocked takes the waiting requests whose next offset is at least from and less than to. The lock
// of scans is held.
func (p *pass) takeLocked(from, to int64) {
	p.scans.waiting[p.zone] = slices.DeleteFunc(p.scans.waiting[p.zone], func(r *rangeRequest) bool {
		next, ended := r.position()
		if ended || next < from || next >= to {
			return ended
		}
		p.requests = append(p.requests, r)
		p.users[r.user] = append(p.users[r.user], r)
		return true
	})
}

// firstOffset returns the lowest offset at which a request continues.
func firstOffset(requests []*rangeRequest) int64 {
	first := int64(math.MaxInt64)
	for _, r := range requests {
		next, _ := r.position()
		first = min(first, next)
	}
	return first
}

// lastOffset returns the offset before which the last of the requests ends.
func (p *pass) lastOffset() int64 {
	last := int64(0)
	for _, r := range p.requests {
		last = max(last, r.to)
	}
	return last
}

// failAt ends the requests that an error at the offset concerns. Afterwards no request is left at that offset.
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
		for _, r := range p.requests {
			if next, _ := r.position(); next < bad.Next {
				r.fail(&UnreadableError{Position{p.Partition, max(next, bad.Offset)}, bad.Next, bad.err})
			}
		}
		p.scans.recordUnreadable(bad)
		return
	}
	p.failAll(err)
	if _, outOfRange := errors.AsType[*OutOfRangeError](err); !outOfRange {
		p.scans.recordFailure(fmt.Errorf("replay %s@%d: %w", p.Partition, offset, err))
	}
}

func (p *pass) failAll(err error) {
	for _, r := range p.requests {
		r.fail(err)
	}
}

// readChunk reads one chunk of the log, offers its records, and returns the offset after it. If Kafka has
// nothing at present, it returns the pass's own offset.
func (p *pass) readChunk() (next int64, err error) {
	end := p.lastOffset()
	for tries := 1; ; tries++ {
		k, err := p.chunks.read(p.scans.ctx, p.next, end)
		if err != nil || k == nil {
			return p.next, err
		}
		next, err = p.offerRecords(k, p.next)
		if err == nil && next > p.next {
			return next, nil
		}
		if err == nil {
			err = fmt.Errorf("%w at offset %d: it has no batch that begins there", batch.ErrCorrupt, p.next)
		}
		old := errors.Is(err, batch.ErrOldMessageFormat) // another fetch would return the same
		if !old {
			p.chunks.forget(k)
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
func (p *pass) offerRecords(k *chunk, offset int64) (int64, error) {
	b := &p.batches
	b.Reset(k.batches, slices.Clone(k.aborted), offset)
	defer b.Close()
	var rec Record
	replayed := 0
	var failed error
	for {
		b.DropRecords()
		more, err := b.Next(&rec.Record)
		if err != nil {
			failed = &UnreadableError{Position{p.Partition, b.NextOffset()}, b.NextReadable(), err}
		}
		if !more {
			break
		}
		replayed++
		p.route.setOwner(&rec, p.owner)
		if rec.Broadcast {
			for _, r := range p.requests {
				r.offer(&rec)
			}
			continue
		}
		for _, r := range p.users[string(rec.User)] {
			r.offer(&rec)
		}
	}
	p.scans.metrics.replayed.Add(float64(replayed))
	for _, r := range p.requests {
		r.advance(b.NextOffset())
	}
	return b.NextOffset(), failed
}
