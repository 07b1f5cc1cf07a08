package stream

import (
	"context"
	"time"
)

// A heartbeat shows proxies and clients that the connection is in use. It is a comment of the event stream format,
// which an EventSource does not show to a page, or an event.
const (
	heartbeatComment = ":\n"
	heartbeatEvent   = "event: " + TypeHeartbeat + "\ndata: {}\n\n"
)

// holdFor is how long events may wait for the events that follow them. It lets a stream that resumes from memory
// send everything in one write: the head of the response, the first checkpoint and the missed records.
const holdFor = 2 * time.Millisecond

// withHeartbeats calls fn, which may wait for Kafka, and writes heartbeats until fn returns. If a heartbeat cannot
// be written, because the client has gone, the context given to fn ends, and withHeartbeats returns the error of
// the write instead of fn's error.
//
// fn may append events to the writer. The timer cannot send the writer's buffer, because fn may be appending to it.
// So withHeartbeats takes the events that are in the buffer before fn begins, and holds them back. They are sent
// when fn sends, or by the timer when fn takes longer than holdFor. If fn sends and the client takes only a part of
// an event, the timer stops, because a heartbeat would get into the middle of the event.
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

// holdBackLocked moves the events in the buffer to held, where they wait for the events that follow them. It
// returns false if the buffer has no events, or must be sent as it is (see [writerSealed]).
func (w *eventWriter) holdBackLocked() bool {
	if w.state() != writerFilling {
		return false
	}
	w.held, w.buf = w.buf, nil
	return true
}

// joinHeldLocked puts the events that were held back before the buffer's events.
func (w *eventWriter) joinHeldLocked() {
	if w.held == nil {
		return
	}
	if w.buf != nil {
		w.held.b = append(w.held.b, w.buf.b[headroom:]...)
		w.held.live = append(w.held.live, w.buf.live...)
		w.held.traces = append(w.held.traces, w.buf.traces...)
		w.buf.free()
	}
	w.held, w.buf = nil, w.held
}

// writePastLocked writes the events that were held back, or a heartbeat if there are none. It does not touch the
// writer's buffer. It waits until the client has taken all bytes.
func (w *eventWriter) writePastLocked() error {
	b := w.held
	if w.held = nil; b == nil {
		b = newBuffer()
		b.b = append(b.b, w.beat...)
	}
	w.env.metrics.delays.beginWrite(b)
	took := b.written
	rest, err := w.out.send(b.b)
	if err == nil && len(rest) > 0 {
		b.waits = true
		err = w.out.finish(rest)
		took = w.env.metrics.delays.now()
	}
	if err == nil {
		w.env.metrics.delays.endWrite(b)
		w.endTracesLocked(b)
		w.recordTaken(len(b.b)-headroom, took)
	}
	b.free()
	return err
}
