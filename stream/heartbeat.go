package stream

import (
	"context"
	"time"
)

// heartbeat is a comment of the event stream format. Proxies and clients see from it that the connection
// is in use.
const heartbeat = ":\n"

// holdFor is how long events may wait for the events that follow them. A stream that resumes from memory so
// sends everything, from the head of the response on, in one write.
const holdFor = 2 * time.Millisecond

// withHeartbeats calls fn, which may wait for Kafka, and writes heartbeats until fn returns. If the client has
// gone, the context given to fn ends, and withHeartbeats returns the error of the write instead of fn's.
//
// fn may append events to the writer. Events appended before are held back, and are sent when fn sends or when
// fn takes longer than holdFor. They and the heartbeats are written past the writer's buffer, never into the
// middle of an event: the heartbeats cease once the client has taken a part of an event only.
func (w *eventWriter) withHeartbeats(ctx context.Context, fn func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var timer *time.Timer
	var failed error
	w.mu.Lock()
	first := w.env.heartbeat
	if w.holdBackLocked() {
		first = holdFor
	}
	timer = time.AfterFunc(first, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if ctx.Err() != nil || len(w.rest) > 0 {
			return
		}
		if failed = w.writePastLocked(); failed != nil {
			cancel(failed)
			return
		}
		timer.Reset(w.env.heartbeat)
	})
	w.mu.Unlock()
	err := fn(ctx)
	timer.Stop()
	w.mu.Lock() // waits for a heartbeat that is being written
	defer w.mu.Unlock()
	cancel(nil)
	w.joinHeldLocked()
	if failed != nil {
		return failed
	}
	return err
}

// holdBackLocked makes the events in the buffer wait for the events that follow them. It returns false if there
// are none.
func (w *eventWriter) holdBackLocked() bool {
	if w.state() != writerFilling {
		return false
	}
	w.held, w.buf = w.buf, nil
	return true
}

// joinHeldLocked puts the events that were held back in front of the buffer's events.
func (w *eventWriter) joinHeldLocked() {
	if w.held == nil {
		return
	}
	if w.buf != nil {
		w.held.b = append(w.held.b, w.buf.b[headroom:]...)
		w.buf.free()
	}
	w.held, w.buf = nil, w.held
}

// writePastLocked writes the events that were held back, or a heartbeat, past the writer's buffer. It waits until
// the client has taken them.
func (w *eventWriter) writePastLocked() error {
	b := w.held
	if w.held = nil; b == nil {
		b = newBuffer()
		b.b = append(b.b, heartbeat...)
	}
	rest, err := w.out.send(b.b)
	if err == nil && len(rest) > 0 {
		err = w.out.finish(rest)
	}
	b.free()
	return err
}
