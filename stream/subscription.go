package stream

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"herald/consumer"
)

// item is one record waiting for a stream.
type item struct {
	partition consumer.Partition
	offset    int64
	eventType string
	end       int    // of its event and data lines in the queue's text; they begin where those before end
	large     *large // in place of these
}

// itemOverhead is what a waiting item takes beside its text, in bytes.
const itemOverhead = 64

// queue is the records that wait for one stream. Streams have one while something waits only: queues
// are used again, so that in the long run a record allocates nothing.
type queue struct {
	items      []item
	text       []byte
	largeBytes int // of its large events
}

// keepItems and keepText are how much a queue may have room for that is used again.
const (
	keepItems = 256
	keepText  = 32 << 10
)

var queues = sync.Pool{New: func() any { return new(queue) }}

func (q *queue) addItem(it item, text []byte) {
	q.text = append(q.text, text...)
	it.end = len(q.text)
	q.largeBytes += it.large.size()
	q.items = append(q.items, it)
}

// size is about the bytes that it takes; of a large event, whether or not others have it too.
func (q *queue) size() int { return len(q.text) + q.largeBytes + len(q.items)*itemOverhead }

func (q *queue) free() {
	if cap(q.items) <= keepItems && cap(q.text) <= keepText {
		clear(q.items)
		q.items, q.text, q.largeBytes = q.items[:0], q.text[:0], 0
		queues.Put(q)
	}
}

// subscription is what others have to say to a stream: the records that wait for it, and what else it
// is to do.
type subscription struct {
	user     string
	topics   []consumer.UserTopic // sorted by topic; set before the hub has the subscription
	maxBytes int
	overflow func() // called when the queue is full
	serve    func() // has the stream served; it must not wait

	mu           sync.Mutex
	queue        *queue                  // nil: nothing waits
	behind       bool                    // live records pass by; what was missed comes by replay
	heartbeatDue bool                    // a heartbeat is due
	ended        error                   // why the stream is to end
	busy         bool                    // it is being served, or will be
	cancel       context.CancelCauseFunc // of what it waits for
}

// newSubscription returns the queue of a stream that is being served and behind: until its cursor has
// been compared with the log a live record may not get in, or it would move the cursor over what is
// to be replayed.
func newSubscription(user string, maxBytes int, overflow, serve func()) *subscription {
	return &subscription{user: user, maxBytes: maxBytes, overflow: overflow, serve: serve, behind: true, busy: true}
}

// topic returns one of the sources by its topic.
func (s *subscription) topic(topic string) *consumer.UserTopic {
	i, _ := slices.BinarySearchFunc(s.topics, topic, func(s consumer.UserTopic, topic string) int { return cmp.Compare(s.Topic, topic) })
	return &s.topics[i]
}

// pushRecord queues an item with its event and data lines, without waiting. An item larger than the bound
// is taken by an empty queue.
func (s *subscription) pushRecord(it item, text []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.behind || s.ended != nil {
		return
	}
	if s.queue == nil {
		s.queue = queues.Get().(*queue) //nolint:forcetypeassert // nothing else is in there
	} else if s.queue.size()+len(text)+it.large.size()+itemOverhead > s.maxBytes {
		s.behind = true
		s.overflow()
		s.serveLocked()
		return
	}
	s.queue.addItem(it, text)
	s.serveLocked()
}

// requestCatchUp has the stream compare its cursor with the log before it takes live records again:
// something other than a record has happened.
func (s *subscription) requestCatchUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.behind = true
	s.serveLocked()
}

// requestHeartbeat says that a heartbeat is due.
func (s *subscription) requestHeartbeat() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heartbeatDue = true
	s.serveLocked()
}

// end has the stream end; the first cause counts.
func (s *subscription) end(cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended != nil {
		return
	}
	s.ended = cause
	if s.cancel != nil {
		s.cancel(cause)
	}
	s.serveLocked()
}

// endCause is why the stream ends; nil if it does not.
func (s *subscription) endCause() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

// serveLocked is called with s.mu held.
func (s *subscription) serveLocked() {
	if !s.busy {
		s.busy = true
		s.serve()
	}
}

// takeHeartbeatRequest says whether a heartbeat is due, once.
func (s *subscription) takeHeartbeatRequest() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.heartbeatDue
	s.heartbeatDue = false
	return was
}

// takeQueue empties the queue, which may be nil, and says whether records passed by since, and why the
// stream is to end.
func (s *subscription) takeQueue() (q *queue, behind bool, ended error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q, s.queue = s.queue, nil
	return q, s.behind, s.ended
}

// acceptLiveRecords lets live records in again.
func (s *subscription) acceptLiveRecords() {
	s.mu.Lock()
	s.behind = false
	s.mu.Unlock()
}

// release lets go of the stream if there is nothing more to do. Then it returns true, and the caller
// may not touch the stream again.
func (s *subscription) release() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.queue != nil || s.behind || s.heartbeatDue || s.ended != nil {
		return false
	}
	s.busy = false
	return true
}

// contextUntilEnd returns a context for what the stream waits for: it ends with the stream.
func (s *subscription) contextUntilEnd(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cancel = cancel
	if s.ended != nil {
		cancel(s.ended)
	}
	return ctx, func() {
		s.mu.Lock()
		s.cancel = nil
		s.mu.Unlock()
		cancel(nil)
	}
}
