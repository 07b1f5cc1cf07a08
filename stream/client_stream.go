package stream

import (
	"context"
	"errors"
	"net/netip"
	"time"
)

// clientStream is one open stream. It brings the client from its cursor to the present and keeps it there:
//
//	start          the client's request sets the cursor (start.go)
//	  │
//	  ▼
//	catching up ◄──────────┐  a replay brings the cursor to the live records (catch_up.go)
//	  │                    │
//	  ▼    live records    │
//	live ──────────────────┘  the writer gets each record as it is delivered (live.go);
//	  │    have passed by     nothing to do: no goroutine
//	  ▼
//	close                     from each of the states above; a poll closes when it is live and has something to
//	                          send, or when its time is over (poll.go)
//
// One goroutine at a time serves a stream, see [engine]. The subscription holds what other goroutines
// leave for it.
type clientStream struct {
	env       *streamEnv
	sub       *subscription
	writer    eventWriter
	catchUp   catchUp
	admission admitted

	taken *queue // records from the subscription, of which the first done are framed; nil: all are
	done  int32

	place    int32    // in the slot; guarded by roster.mu
	slot     uint8    // of the stream's heartbeats; guarded by roster.mu
	joined   bool     // the hub and Kafka know of the stream
	begun    bool     // an event with an id was written
	protocol protocol // of the client's connection; does not change
}

// admitted is what the [roster] knows of a stream.
type admitted struct {
	from     netip.Addr
	opened   int64 // Unix microseconds; no other stream of the process has the same, so that it is the stream's id
	tokenID  string
	issuedAt time.Time
	expiry   *time.Timer // nil: the viewer's token does not expire
}

// newClientStream returns a stream of the user that writes to out. It is not registered anywhere yet. At
// most maxQueue bytes wait for it.
func newClientStream(svc *service, out output, user string, maxQueue int) *clientStream {
	s := &clientStream{env: &svc.streams, writer: eventWriter{env: &svc.writers, out: out, beat: heartbeatComment}}
	s.sub = newSubscription(user, maxQueue, s, s.env.schedule)
	s.writer.sub = s.sub
	s.catchUp = catchUp{env: &svc.catchUps, writer: &s.writer}
	return s
}

// setShape sets how the client wants events. The stream must not have started.
func (s *clientStream) setShape(shape shape) { s.sub.shape, s.writer.shape = shape, shape }

// serveQuick does what can be done without waiting. If something remains, it starts a goroutine that may
// wait.
func (s *clientStream) serveQuick() {
	for {
		behind, ended := s.gather()
		err := s.writer.send()
		switch {
		case err != nil:
			s.close(err)
			return
		case errors.Is(ended, errGone): // the client takes no reason, so that nothing waits
			s.close(ended)
			return
		case s.writer.state() == writerPartial || s.taken == nil && (behind || ended != nil):
			s.env.spawn(s.serveSlow)
			return
		case s.taken == nil && s.release():
			return
		}
	}
}

// serveSlow does what may have to wait, for the client or for Kafka, until nothing more is to do.
func (s *clientStream) serveSlow() {
	err := s.writer.finish()
	for err == nil {
		behind, ended := s.gather()
		switch {
		case s.taken != nil:
			err = s.writer.flush()
			continue
		case ended != nil:
			s.close(ended)
			return
		case behind:
			if s.writer.state() == writerSealed { // nothing but a large event's lines may follow its id
				err = s.writer.flush()
			}
			if err == nil {
				err = s.waitFor(s.catchUp.run)
			}
			if err == nil {
				err = s.writer.flush()
			}
		default:
			err = s.writer.flush()
		}
		if err == nil && s.release() {
			return
		}
	}
	s.close(err)
}

// release ends the serving of the stream if nothing is left to do. Then it returns true, and the caller may not touch
// the stream again.
func (s *clientStream) release() bool {
	s.endPoll()
	return s.sub.release()
}

// waitFor calls fn, which waits for Kafka, with a context that ends with the stream.
func (s *clientStream) waitFor(fn func(context.Context) error) error {
	ctx, done := s.sub.beginWait(s.env.life, s.begun, s.writer.cursor)
	defer done()
	return fn(ctx)
}

// discard drops what waits for the client. A stopped timer of withHeartbeats may keep the stream in memory for a
// while, and large events with it.
func (s *clientStream) discard() {
	s.taken = nil
	s.writer.discard()
	_, _, _ = s.takeQueue()
}

// close ends the response. If Herald ends the stream, the client gets everything that waits for it and
// then the reason.
func (s *clientStream) close(cause error) {
	reason, clean := errors.AsType[EndError](cause)
	switch {
	case clean:
		s.writer.appendEnd(reason)
	case errors.Is(cause, errAnswered):
		clean = true
		s.appendLast()
	}
	clean = clean && s.writer.flush() == nil
	s.catchUp.stopRetry()
	s.writer.poll.stop()
	if s.writer.out.close(clean) {
		s.writer.reportWhole()
	}
	if s.joined {
		s.env.hub.removeSubscription(s.sub)
		s.env.kafka.Leave(s.sub.user)
	}
	s.sub.end(cause) // has no effect if the stream was to end already
	s.discard()
	s.env.closed(s, s.sub.endCause())
	s.writer.out.leave()
}
