package stream

import (
	"slices"
	"sync"

	"herald/consumer"
)

// item is one record waiting for a stream.
type item struct {
	partition consumer.Partition
	offset    int64
	eventType string
	body      []byte // event and data lines, shared by all streams of the record
}

// itemOverhead is about what a waiting item takes beside its body, in bytes.
const itemOverhead = 64

// subscription is the queue of one stream.
type subscription struct {
	user     string
	sources  []consumer.Source // sorted by topic
	topics   []string          // theirs
	maxBytes int
	overflow func() // called when the queue is full
	wake     chan struct{}

	mu     sync.Mutex
	queue  []item
	bytes  int
	behind bool // live records pass by; what was missed comes by replay
}

// newSubscription returns the queue of a stream that is behind: until its cursor has been compared
// with the log a live record may not get in, or it would move the cursor over what is to be replayed.
func newSubscription(user string, sources []consumer.Source, maxBytes int, overflow func()) *subscription {
	topics := make([]string, len(sources))
	for i := range sources {
		topics[i] = sources[i].Topic
	}
	return &subscription{user: user, sources: sources, topics: topics, maxBytes: maxBytes, overflow: overflow, wake: make(chan struct{}, 1), behind: true}
}

// homes returns where the user's records are in one of the topics; nil: in any partition.
func (s *subscription) homes(topic string) *consumer.Homes {
	i, _ := slices.BinarySearch(s.topics, topic)
	return s.sources[i].Homes
}

// push queues an item without waiting. An item larger than the bound is taken by an empty queue.
func (s *subscription) push(it item) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.behind {
		return
	}
	size := len(it.body) + itemOverhead
	if len(s.queue) > 0 && s.bytes+size > s.maxBytes {
		s.behind = true
		s.overflow()
	} else {
		s.queue = append(s.queue, it)
		s.bytes += size
	}
	s.signal()
}

// unsettle has the stream compare its cursor with the log before it takes live records again:
// something other than a record has happened.
func (s *subscription) unsettle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.behind = true
	s.signal()
}

func (s *subscription) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// take empties the queue and says whether records passed by since.
func (s *subscription) take() (queue []item, behind bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	queue, s.queue, s.bytes = s.queue, nil, 0
	return queue, s.behind
}

// rejoin lets live records in again.
func (s *subscription) rejoin() {
	s.mu.Lock()
	s.behind = false
	s.mu.Unlock()
}
