package stream

import (
	"context"
	"time"
)

// heartbeat is a comment of the event stream format. Proxies and clients see from it that the connection
// is in use.
const heartbeat = ":\n"

// withHeartbeats calls fn, which waits for Kafka, and writes heartbeats until fn returns. If the client has
// gone, the context given to fn ends, and withHeartbeats returns the error of the write instead of fn's.
//
// fn may append events to the writer. The heartbeats are written past the writer's buffer, never into the
// middle of an event: they cease once the client has taken a part of an event only.
func (w *eventWriter) withHeartbeats(ctx context.Context, fn func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var timer *time.Timer
	var failed error
	w.mu.Lock()
	timer = time.AfterFunc(w.env.heartbeat, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if ctx.Err() != nil || len(w.rest) > 0 {
			return
		}
		if failed = writeText(w.out, heartbeat); failed != nil {
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
	if failed != nil {
		return failed
	}
	return err
}

// writeText writes a text past the writer's buffer and waits until the client has taken it.
func writeText(out output, text string) error {
	b := newBuffer()
	b.b = append(b.b, text...)
	rest, err := out.send(b.b)
	if err == nil && len(rest) > 0 {
		err = out.finish(rest)
	}
	b.free()
	return err
}
