package consumer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// farBehind is how many offsets before its end a replay is far: it is scanned apart from the near
// ones, so that whoever comes back after a week does not delay those who were away for a second.
const farBehind = 200_000

// turnChunks is how many chunks, of 1 MiB mostly, a pass reads before those it has passed have their
// turn.
const turnChunks = 32

// log names one log: a partition of one incarnation of a topic.
type log struct {
	Partition
	topicID [16]byte
}

// zone says which replays of a log are scanned together.
type zone struct {
	log
	far bool
}

// scans serves the replays: for each zone one pass over the log at a time, with all who wait for it.
// Those who come while a pass is on join it if it has not passed them, else they wait for the next
// one. So the number of passes depends on how long they take and not on how many wait.
type scans struct {
	consumer *Consumer
	ctx      context.Context //nolint:containedctx // the life of the goroutines that add starts, not a request's
	wg       sync.WaitGroup
	slots    map[bool]chan struct{} // by far: how many passes read at a time

	mu      sync.Mutex
	waiting map[zone][]*request // with a key for each zone that has a goroutine
}

func newScans(c *Consumer) *scans {
	few := max(1, c.cfg.ReplayConcurrency/4)
	return &scans{
		consumer: c,
		slots:    map[bool]chan struct{}{false: make(chan struct{}, max(1, c.cfg.ReplayConcurrency-few)), true: make(chan struct{}, few)},
		waiting:  make(map[zone][]*request),
	}
}

// start lets requests in until ctx ends.
func (s *scans) start(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ctx = ctx
}

// add has the request served.
func (s *scans) add(l log, route *Route, r *request) {
	z := zone{l, r.to-r.Next > farBehind}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx == nil || s.ctx.Err() != nil {
		r.fail(errors.New("the consumer does not run"))
		return
	}
	_, runs := s.waiting[z]
	s.waiting[z] = append(s.waiting[z], r)
	if !runs {
		s.wg.Go(func() { s.run(z, route) })
	}
}

// run makes passes until nobody waits.
func (s *scans) run(z zone, route *Route) {
	slot := s.slots[z.far]
	for {
		select {
		case slot <- struct{}{}:
		case <-s.ctx.Done():
		}
		p := &pass{scans: s, zone: z, route: route, owner: route.owner(z.Topic), source: newSource(s.consumer, z.log)}
		more := p.join(0)
		if more && s.ctx.Err() == nil {
			p.run()
			<-slot
			continue
		}
		if s.ctx.Err() == nil {
			<-slot
		}
		for _, r := range p.requests {
			r.fail(s.ctx.Err())
		}
		if !more {
			return
		}
	}
}

// pass is one reading of a part of a log, for all requests whose part it is.
type pass struct {
	*scans
	zone
	route    *Route
	owner    []byte
	source   *source
	requests []*request
	users    map[string][]*request
	headers  []Header
}

// join takes in the requests that wait and that a pass at the offset has not passed. If there are no
// requests at all, the zone ends: it returns false.
func (p *pass) join(at int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	var later []*request
	for _, r := range p.waiting[p.zone] {
		if next, ended := r.position(); ended {
			continue
		} else if next < at {
			later = append(later, r)
			continue
		}
		p.requests = append(p.requests, r)
		if p.users == nil {
			p.users = make(map[string][]*request)
		}
		p.users[r.user] = append(p.users[r.user], r)
	}
	p.waiting[p.zone] = later
	if len(p.requests) == 0 && len(later) == 0 {
		delete(p.waiting, p.zone)
		return false
	}
	return true
}

// giveWay puts the requests back if others wait whom the pass has passed: the next pass begins with
// those, and meets these again.
func (p *pass) giveWay() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.waiting[p.zone]) == 0 {
		return false
	}
	p.waiting[p.zone] = append(p.waiting[p.zone], p.requests...)
	p.requests = nil
	return true
}

// dropEnded forgets the requests that are over.
func (p *pass) dropEnded() {
	before := len(p.requests)
	p.requests = slices.DeleteFunc(p.requests, func(r *request) bool { _, ended := r.position(); return ended })
	if len(p.requests) == before {
		return
	}
	p.users = make(map[string][]*request, len(p.requests))
	for _, r := range p.requests {
		p.users[r.user] = append(p.users[r.user], r)
	}
}

// run reads from the first of the requests' offsets until all of them are served.
func (p *pass) run() {
	p.consumer.metrics.passes.Inc()
	at := p.first()
	for chunks := 1; len(p.requests) > 0; chunks++ {
		if chunks%turnChunks == 0 && p.giveWay() {
			return
		}
		next, err := p.read(at)
		if err == nil {
			at = next
			p.join(at)
		} else {
			p.fail(at, err)
		}
		p.dropEnded()
		at = max(at, p.first())
	}
}

// first is where the first of the requests is to go on.
func (p *pass) first() int64 {
	first := int64(0)
	for i, r := range p.requests {
		if next, _ := r.position(); i == 0 || next < first {
			first = next
		}
	}
	return first
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
		if p.consumer.mayLogReplay() {
			p.consumer.tellUnreadable(bad)
		}
		return
	}
	for _, r := range p.requests {
		r.fail(err)
	}
	if _, outOfRange := errors.AsType[*OutOfRangeError](err); !outOfRange {
		p.consumer.replayFailed(p.ctx, fmt.Errorf("replay %s@%d: %w", p.Partition, at, err))
	}
}

// replayFailed counts an error of a replay that is Kafka's, and logs it, but at most once a second
// for all of them.
func (c *Consumer) replayFailed(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	c.metrics.errors.WithLabelValues("replay").Inc()
	if c.mayLogReplay() {
		c.log.Warn("replay; it is tried again", "error", err)
	}
}

// mayLogReplay says whether a line of a replay may be logged: one a second, for all of them.
func (c *Consumer) mayLogReplay() bool {
	now := time.Now().Unix()
	last := c.replayLogged.Load()
	return now > last && c.replayLogged.CompareAndSwap(last, now)
}

// read hands out the records of one chunk of the log and returns the offset behind it.
func (p *pass) read(at int64) (next int64, err error) {
	end := int64(0)
	for _, r := range p.requests {
		end = max(end, r.to)
	}
	for tries := 1; ; tries++ {
		c, err := p.source.chunk(p.ctx, at, end)
		if err != nil {
			return at, err
		}
		next, err = p.deliver(c, at)
		if err == nil && next > at {
			return next, nil
		}
		if err == nil {
			err = fmt.Errorf("%w at offset %d: it does not go on", ErrCorruptBatch, at)
		}
		old := errors.Is(err, ErrOldMessageFormat) // to ask again would not help
		if !old {
			p.consumer.chunks.remove(c)
		}
		if next > at {
			return next, nil // what is before the error was served
		}
		if old || tries == readTries {
			return at, err
		}
	}
}

// deliver hands out the records of the chunk from offset at on. With an [*UnreadableError] it
// returns where that is.
func (p *pass) deliver(c *chunk, at int64) (int64, error) {
	b := batches{data: c.batches, aborted: slices.Clone(c.aborted), next: at, headers: p.headers, keys: make(headerKeys)}
	defer func() {
		b.close()
		p.headers = b.headers
	}()
	var rec Record
	replayed := 0
	var failed error
	for {
		b.headers = b.headers[:0]
		more, err := b.read(&rec)
		if err != nil {
			failed = &UnreadableError{Position{p.Partition, b.next}, b.behind(), err}
		}
		if !more {
			break
		}
		replayed++
		p.route.own(&rec, p.owner)
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
		r.advance(b.next)
	}
	return b.next, failed
}
