package bench

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"
)

// waitFor waits until count reaches want. It returns a [stuckError] with the problem if the count does
// not change for as long as the patience, [errInterrupted] if ctx ends, or the error that failed the run.
func (r *run) waitFor(ctx context.Context, problem string, count func() int64, want int64) error {
	moved, last := time.Now(), count()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		now := count()
		switch {
		case now >= want:
			return nil
		case now != last:
			moved, last = time.Now(), now
		case time.Since(moved) > r.cfg.Patience:
			return &stuckError{fmt.Sprintf("%s: %d of %d, and none for %v%s", problem, now, want, r.cfg.Patience, r.retries())}
		}
		select {
		case <-tick.C:
		case <-r.ctx.Done():
			return context.Cause(r.ctx)
		case <-ctx.Done():
			if r.ctx.Err() != nil {
				return context.Cause(r.ctx)
			}
			return errInterrupted
		}
	}
}

// stuckError reports that a count did not change for as long as the patience.
type stuckError struct{ text string }

func (e *stuckError) Error() string { return e.text }

// retries says why connections were tried again. The text is the end of a sentence.
func (r *run) retries() string {
	var text strings.Builder
	for reason, n := range r.retriedCounts() {
		_, _ = fmt.Fprintf(&text, "; %d times: %s", n, reason)
	}
	return text.String()
}

func (r *run) retriedCounts() map[string]int64 {
	list := make(map[string]int64)
	r.retried.Range(func(reason, n any) bool {
		list[reason.(string)] = n.(*atomic.Int64).Load()
		return true
	})
	return list
}

// unique returns how many events have arrived. A repeated event counts once.
func (r *run) unique() (n int64) {
	for _, sh := range r.shards {
		n += sh.unique.Load()
	}
	return n
}

// ready returns how many streams have begun, without stalled streams.
func (r *run) ready() (n int64) {
	for _, sh := range r.shards {
		n += sh.ready.Load()
	}
	return n
}

// lastEvent returns when the last event arrived. Repeated events do not count.
func (r *run) lastEvent() time.Time {
	var at int64
	for _, sh := range r.shards {
		at = max(at, sh.lastAt.Load())
	}
	return time.Unix(0, at)
}

// lost returns how many events of the written records have not arrived.
func (r *run) lost() (n uint64) {
	for _, s := range r.streams[:r.cfg.Streams] {
		s.shard.mu.Lock()
		n += s.got.lost(r.sent[s.source])
		s.shard.mu.Unlock()
	}
	return n
}

// records returns how many records have been written, without the records of stalled users.
func (r *run) records() (n uint64) {
	for _, sent := range r.sent {
		n += sent
	}
	return n
}

// expected returns how many events the written records must produce.
func (r *run) expected() (n int64) {
	for _, s := range r.streams[:r.cfg.Streams] {
		n += int64(r.sent[s.source]) //nolint:gosec // a count
	}
	return n
}
