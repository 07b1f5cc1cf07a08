package stream

import (
	"slices"
	"sync"
	"sync/atomic"

	"herald/consumer"
)

// Hub queues live records for the open streams of their users. It is a [consumer.Sink].
type Hub struct {
	typeHeader string

	mu         sync.RWMutex
	partitions map[consumer.Partition]*partition
	users      map[string][]*subscription
	all        map[*subscription]struct{}
}

// partition is how far a partition has been read. next is written with mu held over the delivery
// of all records before it.
type partition struct {
	mu      sync.Mutex
	topicID [16]byte
	next    atomic.Int64
}

// NewHub returns a hub without streams. typeHeader names the record header that holds the event
// type.
func NewHub(typeHeader string) *Hub {
	return &Hub{
		typeHeader: typeHeader,
		partitions: make(map[consumer.Partition]*partition),
		users:      make(map[string][]*subscription),
		all:        make(map[*subscription]struct{}),
	}
}

var _ consumer.Sink = (*Hub)(nil)

// Begin implements [consumer.Sink].
func (h *Hub) Begin(p consumer.Partition, topicID [16]byte, next int64) {
	part := &partition{topicID: topicID}
	part.next.Store(next)
	h.mu.Lock()
	h.partitions[p] = part
	h.mu.Unlock()
}

// End implements [consumer.Sink].
func (h *Hub) End(p consumer.Partition) {
	h.mu.Lock()
	delete(h.partitions, p)
	h.mu.Unlock()
}

// Deliver implements [consumer.Sink].
func (h *Hub) Deliver(p consumer.Partition, records []consumer.Record, next int64) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	part := h.partitions[p]
	if part == nil {
		return
	}
	part.mu.Lock()
	defer part.mu.Unlock()
	for i := range records {
		r := &records[i]
		if r.Value == nil {
			continue // a tombstone is no notification
		}
		if r.Broadcast {
			if len(h.all) > 0 {
				it := item{partition: p, offset: r.Offset, body: appendRecord(nil, r, h.typeHeader)}
				for s := range h.all {
					s.push(it)
				}
			}
			continue
		}
		if subs := h.users[string(r.User)]; len(subs) > 0 {
			it := item{partition: p, offset: r.Offset, body: appendRecord(nil, r, h.typeHeader)}
			for _, s := range subs {
				s.push(it)
			}
		}
	}
	part.next.Store(next)
}

// Gap implements [consumer.Sink].
func (h *Hub) Gap(p consumer.Partition, topicID [16]byte, gap consumer.Gap) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	part := h.partitions[p]
	if part == nil {
		return
	}
	part.mu.Lock()
	defer part.mu.Unlock()
	part.topicID = topicID
	part.next.Store(gap.To)
	for s := range h.all {
		if s.reads(p.Topic) {
			s.push(item{partition: p, offset: gap.From, gap: &gap})
		}
	}
}

func (h *Hub) add(s *subscription) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all[s] = struct{}{}
	h.users[s.user] = append(h.users[s.user], s)
}

func (h *Hub) remove(s *subscription) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.all, s)
	left := slices.DeleteFunc(h.users[s.user], func(o *subscription) bool { return o == s })
	if len(left) == 0 {
		delete(h.users, s.user)
		return
	}
	h.users[s.user] = left
}

// positions returns how far each partition of s's topics has been read: what was delivered before
// is in the queues.
func (h *Hub) positions(s *subscription) cursor {
	h.mu.RLock()
	defer h.mu.RUnlock()
	at := make(cursor)
	for p, part := range h.partitions {
		if s.reads(p.Topic) {
			at[p] = part.next.Load()
		}
	}
	return at
}

// seam is positions for a subscription that was added before: it waits for a delivery under way,
// so that records before them come by replay and all others are queued. It also returns the topics
// as ids name them.
func (h *Hub) seam(s *subscription) (cursor, []feedTopic) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	at := make(cursor)
	ids := make(map[string][16]byte)
	for p, part := range h.partitions {
		if s.reads(p.Topic) {
			part.mu.Lock()
			ids[p.Topic] = part.topicID
			at[p] = part.next.Load()
			part.mu.Unlock()
		}
	}
	topics := make([]feedTopic, 0, len(s.topics))
	for _, name := range s.topics {
		topics = append(topics, newFeedTopic(name, ids[name]))
	}
	return at, topics
}
