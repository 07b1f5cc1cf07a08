package consumer

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"herald/consumer/batch"
)

// pass is one reading of a part of a log, for all requests whose part it is; then the next one.
type pass struct {
	zone
	consumer *Consumer
	scans    *scans
	route    *Route
	owner    []byte
	source   *chunkReader
	at, end  int64
	low      int64 // the first offset of all passes
	high     int64 // and the one behind the last
	requests []*rangeRequest
	users    map[string][]*rangeRequest
	batches  batch.Reader

	begun     time.Time
	gathering time.Time     // since when others are waited for; zero: they are not
	gathered  int           // how many have come whom the pass had passed
	came      time.Time     // when that was seen to change last
	quiet     time.Duration // others are waited for until nobody has come for so long
}

// turn waits for a slot and reads some chunks, to the end of the pass at most. It returns false when
// nobody waits any more.
func (p *pass) turn() bool {
	if p.over() {
		p.gather()
	}
	slot := p.scans.slots[p.distance]
	select {
	case slot <- struct{}{}: // channels are fair: whoever has waited longest is next
		defer func() { <-slot }()
	case <-p.scans.ctx.Done():
		for p.begin() {
			p.failAll(p.scans.ctx.Err())
		}
		return false
	}
	p.join()
	if p.over() && !p.begin() {
		return false
	}
	for chunks := 0; chunks < p.scans.turnChunks && !p.over(); chunks++ {
		next, err := p.read()
		if err != nil {
			p.fail(p.at, err)
		}
		p.at = next
		p.high = max(p.high, p.at)
		p.join()
	}
	return true
}

func (p *pass) over() bool { return len(p.requests) == 0 || p.at >= p.end }

// gather waits for the others of a storm if the next pass is to read again what memory does not hold.
// Those who want what was not read yet do not wait for longer than calm: they have a pass meanwhile.
func (p *pass) gather() {
	if p.gathering.IsZero() {
		p.gathering = time.Now()
		p.quiet = max(p.scans.calm, p.gathering.Sub(p.begun))
	}
	for ; p.scans.ctx.Err() == nil && time.Since(p.gathering) < p.scans.patience; pause(p.scans.ctx, p.scans.calm) {
		p.scans.mu.Lock()
		p.takeFrom(p.high)
		behind := slices.Clone(p.scans.waiting[p.zone])
		p.scans.mu.Unlock()
		if len(behind) == 0 || p.remembers(first(behind)) {
			p.end = p.at // the next pass is of all
			return
		}
		if len(p.requests) > 0 {
			p.start()
			return
		}
		if len(behind) != p.gathered {
			p.gathered, p.came = len(behind), time.Now()
		}
		if time.Since(p.came) >= p.quiet {
			return
		}
	}
}

// remembers says whether memory holds what was read from the offset on.
func (p *pass) remembers(at int64) bool {
	for at = max(at, p.low); at < p.high; {
		k := p.source.find(at)
		if k == nil {
			return false
		}
		at = k.next
	}
	return true
}

// begin starts a pass with all who wait. If nobody does, the zone ends: it returns false.
func (p *pass) begin() bool {
	p.scans.mu.Lock()
	defer p.scans.mu.Unlock()
	p.gathering, p.gathered = time.Time{}, 0
	p.takeFrom(0)
	if len(p.requests) == 0 {
		delete(p.scans.waiting, p.zone)
		return false
	}
	p.start()
	return true
}

// start has a pass begin, to the end of what the requests want now: who comes later and wants more gets
// that from the next one, so that those who were passed do not wait for ever.
func (p *pass) start() {
	p.begun = time.Now()
	p.at, p.end = first(p.requests), p.last()
	p.low = min(p.low, p.at)
	p.consumer.metrics.passes.Inc()
}

// join lets go of those who are served and takes in those who have come and whom the pass has not
// passed.
func (p *pass) join() {
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
	p.take(p.at, p.end)
	p.scans.mu.Unlock()
	p.at = max(p.at, first(p.requests))
}

// takeFrom puts the requests back and takes in all at the offset or behind it. It is called with scans.mu
// held.
func (p *pass) takeFrom(at int64) {
	p.scans.waiting[p.zone] = append(p.scans.waiting[p.zone], p.requests...)
	p.requests, p.users = nil, make(map[string][]*rangeRequest)
	p.take(at, math.MaxInt64)
}

// take takes in those who wait at an offset from..to. It is called with scans.mu held.
func (p *pass) take(from, to int64) {
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

// first is where the first of the requests is to go on.
func first(requests []*rangeRequest) int64 {
	first := int64(math.MaxInt64)
	for _, r := range requests {
		next, _ := r.position()
		first = min(first, next)
	}
	return first
}

// last is the end of what the requests want.
func (p *pass) last() int64 {
	last := int64(0)
	for _, r := range p.requests {
		last = max(last, r.to)
	}
	return last
}

// fail tells those whom an error at the offset concerns. After it nobody is left there.
func (p *pass) fail(at int64, err error) {
	if lost, ok := errors.AsType[*OutOfRangeError](err); ok && at < lost.Start {
		for _, r := range p.requests { // the others begin behind what was lost
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
		p.consumer.metrics.errors.WithLabelValues("unreadable").Inc()
		if onceASecond(&p.consumer.leftOutLogged) {
			p.consumer.tellUnreadable(bad)
		}
		return
	}
	p.failAll(err)
	if _, outOfRange := errors.AsType[*OutOfRangeError](err); !outOfRange {
		p.consumer.replayFailed(p.scans.ctx, fmt.Errorf("replay %s@%d: %w", p.Partition, at, err))
	}
}

func (p *pass) failAll(err error) {
	for _, r := range p.requests {
		r.fail(err)
	}
}

// read hands out the records of one chunk of the log and returns the offset behind it, which is where
// the pass is if there is nothing by now.
func (p *pass) read() (next int64, err error) {
	end := p.last()
	for tries := 1; ; tries++ {
		c, err := p.source.chunk(p.scans.ctx, p.at, end)
		if err != nil || c == nil {
			return p.at, err
		}
		next, err = p.deliver(c, p.at)
		if err == nil && next > p.at {
			return next, nil
		}
		if err == nil {
			err = fmt.Errorf("%w at offset %d: it does not go on", batch.ErrCorrupt, p.at)
		}
		old := errors.Is(err, batch.ErrOldMessageFormat) // to ask again would not help
		if !old {
			p.source.remove(c)
		}
		if next > p.at {
			return next, nil // what is before the error was served
		}
		if old || tries == readTries {
			return p.at, err
		}
	}
}

// deliver hands out the records of the chunk from offset at on. With an [*UnreadableError] it
// returns where that is.
func (p *pass) deliver(c *chunk, at int64) (int64, error) {
	b := &p.batches
	b.Reset(c.batches, slices.Clone(c.aborted), at)
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
	p.consumer.metrics.replayed.Add(float64(replayed))
	for _, r := range p.requests {
		r.advance(b.NextOffset())
	}
	return b.NextOffset(), failed
}
