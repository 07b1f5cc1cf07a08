package stream

import (
	"slices"
	"sync"

	"herald/consumer"
)

// item is one record or gap waiting for a stream.
type item struct {
	partition consumer.Partition
	offset    int64
	body      []byte // event and data lines, shared by all streams of the record
	gap       *consumer.Gap
}

// subscription is the queue of one stream.
type subscription struct {
	user     string
	topics   []string
	maxBytes int
	overflow func() // called when records begin to pass by
	wake     chan struct{}

	mu      sync.Mutex
	queue   []item
	bytes   int
	lagging bool // live records pass by; what was missed comes by replay
}

func newSubscription(user string, topics []string, maxBytes int, overflow func()) *subscription {
	slices.Sort(topics) // ids name them in this order
	return &subscription{user: user, topics: topics, maxBytes: maxBytes, overflow: overflow, wake: make(chan struct{}, 1)}
}

// push queues an item without waiting. An item larger than the bound is taken by an empty queue.
func (s *subscription) push(it item) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lagging {
		return
	}
	if len(s.queue) > 0 && s.bytes+len(it.body) > s.maxBytes {
		s.lagging = true
		s.overflow()
	} else {
		s.queue = append(s.queue, it)
		s.bytes += len(it.body)
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// take empties the queue and says whether records passed by since.
func (s *subscription) take() (queue []item, lagging bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	queue, s.queue, s.bytes = s.queue, nil, 0
	return queue, s.lagging
}

// rejoin lets live records in again.
func (s *subscription) rejoin() {
	s.mu.Lock()
	s.lagging = false
	s.mu.Unlock()
}
