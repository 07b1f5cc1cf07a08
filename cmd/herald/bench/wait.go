package bench

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"
)

// wait waits until count has reached want. The error is the run's, or problem if the count does not
// move for as long as the patience lasts, or [errInterrupted] when ctx ends.
func (r *run) wait(ctx context.Context, problem string, count func() int64, want int64) error {
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

// stuckError says that something did not move.
type stuckError struct{ text string }

func (e *stuckError) Error() string { return e.text }

// retries is why connections were tried again, as the end of a sentence.
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

// unique is how many events have come for the first time.
func (r *run) unique() (n int64) {
	for _, sh := range r.shards {
		n += sh.unique.Load()
	}
	return n
}

// ready is how many streams that are read have begun.
func (r *run) ready() (n int64) {
	for _, sh := range r.shards {
		n += sh.ready.Load()
	}
	return n
}

// lastEvent is when the last event came that had not come before.
func (r *run) lastEvent() time.Time {
	var at int64
	for _, sh := range r.shards {
		at = max(at, sh.lastAt.Load())
	}
	return time.Unix(0, at)
}

// lost is how many events have not come of those that were written.
func (r *run) lost() (n uint64) {
	for _, s := range r.streams[:r.cfg.Streams] {
		s.shard.mu.Lock()
		n += s.got.lost(r.sent[s.source])
		s.shard.mu.Unlock()
	}
	return n
}

// records is how many have been written for streams that are read.
func (r *run) records() (n uint64) {
	for _, sent := range r.sent {
		n += sent
	}
	return n
}

// expected is how many events all that was written makes.
func (r *run) expected() (n int64) {
	for _, s := range r.streams[:r.cfg.Streams] {
		n += int64(r.sent[s.source]) //nolint:gosec // a count
	}
	return n
}
