package consumer

import (
	"context"
	"errors"
	"sync"
)

// errNotRunning says that a consumer does not run, so it cannot replay from Kafka.
var errNotRunning = errors.New("the consumer does not run")

// waiters holds the requests that wait for a pass. A zone has an entry in zones as long as it has a goroutine:
// from its first request until takeAll finds none.
type waiters struct {
	mu    sync.Mutex
	ctx   context.Context //nolint:containedctx // the life of the zones' goroutines, not a request's
	zones map[zone][]*rangeRequest
}

func newWaiters() *waiters { return &waiters{zones: make(map[zone][]*rangeRequest)} }

// open accepts requests until ctx ends.
func (w *waiters) open(ctx context.Context) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ctx = ctx
}

// add adds a request. If the zone has no goroutine, add calls start with the context that open was given. The error
// is [errNotRunning].
func (w *waiters) add(z zone, r *rangeRequest, start func(context.Context)) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ctx == nil || w.ctx.Err() != nil {
		return errNotRunning
	}
	requests, runs := w.zones[z]
	w.zones[z] = append(requests, r)
	if !runs {
		start(w.ctx)
	}
	return nil
}

// take removes and returns the zone's requests that continue at the offset from or later, but before the
// offset to. It drops requests that have ended.
func (w *waiters) take(z zone, from, to int64) (taken []*rangeRequest) {
	w.mu.Lock()
	defer w.mu.Unlock()
	left := w.zones[z][:0]
	for _, r := range w.zones[z] {
		next, ended := r.position()
		switch {
		case ended:
		case next >= from && next < to:
			taken = append(taken, r)
		default:
			left = append(left, r)
		}
	}
	clear(w.zones[z][len(left):])
	w.zones[z] = left
	return taken
}

// takeAll removes and returns all requests of the zone. If there are none, the zone's goroutine must end.
func (w *waiters) takeAll(z zone) (taken []*rangeRequest) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.zones[z] {
		if _, ended := r.position(); !ended {
			taken = append(taken, r)
		}
	}
	if w.zones[z] = nil; len(taken) == 0 {
		delete(w.zones, z)
	}
	return taken
}

// putBack makes requests wait again that were taken before.
func (w *waiters) putBack(z zone, requests []*rangeRequest) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.zones[z] = append(w.zones[z], requests...)
}

// countBefore returns how many of the zone's requests continue before the offset, and the lowest offset at
// which one of them continues.
func (w *waiters) countBefore(z zone, offset int64) (count int, first int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	first = offset
	for _, r := range w.zones[z] {
		if next, ended := r.position(); !ended && next < offset {
			count++
			first = min(first, next)
		}
	}
	return count, first
}

// zoneCount returns how many zones have a goroutine.
func (w *waiters) zoneCount() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.zones)
}
