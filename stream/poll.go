package stream

import (
	"context"
	"errors"
	"time"
)

const (
	maxWait  = 5 * time.Minute // the most that a client may ask a poll to wait
	maxLimit = 10_000          // the most records that a client may ask a poll for

	// defaultLimit is the most records of a JSON object without the parameter limit: clients read an object as a whole.
	defaultLimit = 1000

	// pollPatience is how long a poll waits for partitions for which Kafka has no answer. A leader is elected within
	// this time. A poll that ended at once would make its client ask again at once.
	pollPatience = 10 * time.Second
)

// errAnswered is the end of a poll: the client has what it asked for.
var errAnswered = errors.New("the poll is answered")

// poll makes a stream end by itself: once the stream is live and has something to send, or once its time is over. The
// cursor, the ids and the catch-up are the same as in other streams. So a client that polls from the id of the previous
// answer gets the events that an open stream would have sent.
type poll struct {
	limit   int       // the most records; 0: no limit
	whole   bool      // the client uses the answer only as a whole: see [eventWriter.reportSentLocked]
	waitEnd time.Time // when the poll ends although it has no event
	giveUp  time.Time // when the poll ends although Kafka has no answer for some partitions

	records int            // the records sent, or appended
	gaps    int            // the gaps sent, or appended
	traces  []*recordTrace // the traced records of an answer that the client uses only as a whole
	live    bool           // the stream was live when the poll ended
	timer   *time.Timer    // makes the stream look at the clock; nil until the stream waits
}

// newPoll returns the poll that a request asks for. It begins now.
func newPoll(r streamRequest) *poll {
	now := time.Now()
	return &poll{limit: r.limit, whole: r.format == jsonObject, waitEnd: now.Add(r.wait), giveUp: now.Add(pollPatience)}
}

// The methods below may be called with nil, which stands for a stream that is not a poll.

func (p *poll) countRecord() {
	if p != nil {
		p.records++
	}
}

func (p *poll) countGap() {
	if p != nil {
		p.gaps++
	}
}

// isWhole reports whether the client uses the answer only as a whole, and throws away a part.
func (p *poll) isWhole() bool { return p != nil && p.whole }

// isFull reports whether the poll has as many records as the client asked for.
func (p *poll) isFull() bool { return p != nil && p.limit > 0 && p.records >= p.limit }

// deadline returns when the poll ends. live says that replay has met live.
func (p *poll) deadline(live bool) time.Time {
	empty := p.records+p.gaps == 0
	switch {
	case live && empty:
		return p.waitEnd
	case live:
		return time.Time{} // at once
	case empty && p.waitEnd.After(p.giveUp):
		return p.waitEnd
	default:
		return p.giveUp
	}
}

// isOver reports whether the poll ends now. live says that replay has met live.
func (p *poll) isOver(live bool) bool {
	return p != nil && (p.isFull() || !time.Now().Before(p.deadline(live)))
}

// limitStart returns a context that ends when the poll no longer waits for Kafka to say where the stream begins.
func (p *poll) limitStart(ctx context.Context) (context.Context, context.CancelFunc) {
	if p == nil {
		return ctx, func() {}
	}
	return context.WithDeadlineCause(ctx, p.deadline(false), errAnswered)
}

// stop stops the timer.
func (p *poll) stop() {
	if p != nil && p.timer != nil {
		p.timer.Stop()
	}
}

// endPoll ends the stream if it is a poll that is over. It is called when the stream has nothing else to do. If the
// poll is not over, endPoll sets the timer to the time at which it will be.
func (s *clientStream) endPoll() {
	p := s.writer.poll
	if p == nil {
		return
	}
	if p.isFull() {
		s.sub.end(errAnswered)
		return
	}
	live := s.hasMetLive()
	if p.isOver(live) {
		p.live = live && s.isLive()
		s.sub.endCaughtUp(errAnswered)
		return
	}
	left := time.Until(p.deadline(live))
	if p.timer == nil {
		p.timer = time.AfterFunc(left, s.sub.requestHeartbeat) // a heartbeat also moves the cursor to the present
	} else {
		p.timer.Reset(left)
	}
}

// appendLast appends the checkpoint with which a poll ends. If Kafka has not said where the stream begins, the client's
// own id is in the buffer and becomes the checkpoint's.
func (s *clientStream) appendLast() {
	if !s.begun {
		b := s.writer.buffer()
		b.b = appendOwn(b.b, TypeCheckpoint, checkpointData{})
		return
	}
	s.writer.appendCheckpoint(checkpointData{Live: s.writer.poll.live && !s.writer.poll.isFull()})
}

// hasMetLive reports whether replay has met live, and no partition waits for Kafka. Kafka may have newer records that
// this replica has not read yet: a poll that has something to send does not wait for them.
func (s *clientStream) hasMetLive() bool { return s.catchUp.metLive && len(s.catchUp.waiting) == 0 }

// isLive reports whether the stream has all records that its topics have, if nothing waits in the subscription.
func (s *clientStream) isLive() bool {
	if !s.hasMetLive() {
		return false
	}
	now := s.env.hub.positions(s.sub.topics)
	defer cursors.Put(now)
	return s.catchUp.isCurrent(*now)
}
