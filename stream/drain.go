package stream

import (
	"context"
	"math/rand/v2"
	"time"
)

// drainStreams ends all streams one after the other within the window, and admits no more. It waits until the
// streams have written everything that waited for them. When ctx ends it cuts the remaining ones.
func (r *roster) drainStreams(ctx context.Context, window time.Duration) {
	r.startDraining()
	var all []*clientStream
	r.visitStreams(func(f *clientStream) { all = append(all, f) })
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] }) //nolint:gosec // no secret
	window = min(window, time.Duration(len(all))*time.Second/drainRate)
	begun := time.Now()
	for i, f := range all {
		if early := window*time.Duration(i)/time.Duration(len(all)) - time.Since(begun); early > time.Millisecond {
			select {
			case <-time.After(early):
			case <-ctx.Done():
			}
		}
		f.sub.end(ErrDraining)
	}
	select {
	case <-r.empty:
		return
	case <-ctx.Done():
	}
	r.visitStreams(func(f *clientStream) { f.writer.out.cut() })
	select {
	case <-r.empty:
	case <-time.After(cutTimeout): // a connection of another protocol is stuck; its server closes it
	}
}

// startDraining has streams refused from now on, and streams that were admitted end as soon as they are added.
func (r *roster) startDraining() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.draining && r.count == 0 {
		close(r.empty)
	}
	r.draining = true
}

// cutTimeout is how long a drain waits for cut streams to end.
const cutTimeout = time.Second

// cutOpen closes the connections of the streams that are still open.
func (r *roster) cutOpen(streams []*clientStream) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range streams {
		if slot := r.slots[f.slot]; int(f.place) < len(slot) && slot[f.place] == f {
			f.writer.out.cut()
		}
	}
}
