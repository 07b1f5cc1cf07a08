package stream

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"herald/consumer"
)

// Hub queues live records for the open streams of their users. It is a [consumer.Sink].
type Hub struct {
	typeHeader string
	metrics    *metrics

	mu     sync.RWMutex
	topics map[string]map[int32]*partition
	users  map[string][]*subscription
	all    map[*subscription]struct{}
}

// partition is how far a partition has been read. next is written with mu held over the delivery
// of all records before it.
type partition struct {
	mu      sync.Mutex
	topicID [16]byte
	next    atomic.Int64
}

// NewHub returns a hub without streams. typeHeader names the record header that holds the event
// type. registry, which may be nil, gets the metrics of all streams.
func NewHub(typeHeader string, registry prometheus.Registerer) *Hub {
	return &Hub{
		typeHeader: typeHeader,
		metrics:    newMetrics(registry),
		topics:     make(map[string]map[int32]*partition),
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
	defer h.mu.Unlock()
	if h.topics[p.Topic] == nil {
		h.topics[p.Topic] = make(map[int32]*partition)
	}
	h.topics[p.Topic][p.ID] = part
}

// End implements [consumer.Sink].
func (h *Hub) End(p consumer.Partition) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.topics[p.Topic], p.ID)
	if len(h.topics[p.Topic]) == 0 {
		delete(h.topics, p.Topic)
	}
}

// Deliver implements [consumer.Sink].
func (h *Hub) Deliver(p consumer.Partition, records []consumer.Record, next int64) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	part := h.topics[p.Topic][p.ID]
	if part == nil {
		return
	}
	part.mu.Lock()
	defer part.mu.Unlock()
	for i := range records {
		h.queue(p, &records[i])
	}
	part.next.Store(next)
}

// queue gives the record to the streams it is for. h.mu is held.
func (h *Hub) queue(p consumer.Partition, r *consumer.Record) {
	if r.Value == nil { // a tombstone is no notification
		h.metrics.tombstones.Inc()
		return
	}
	if r.Broadcast {
		if len(h.all) > 0 {
			it := item{partition: p, offset: r.Offset, body: appendRecord(nil, r, h.typeHeader)}
			for s := range h.all {
				s.push(it)
			}
		}
		return
	}
	if subs := h.users[string(r.User)]; len(subs) > 0 {
		it := item{partition: p, offset: r.Offset, body: appendRecord(nil, r, h.typeHeader)}
		for _, s := range subs {
			s.push(it)
		}
	}
}

// Gap implements [consumer.Sink].
func (h *Hub) Gap(p consumer.Partition, topicID [16]byte, gap consumer.Gap) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	part := h.topics[p.Topic][p.ID]
	if part == nil {
		return
	}
	part.mu.Lock()
	defer part.mu.Unlock()
	part.topicID = topicID
	part.next.Store(gap.To)
	for s := range h.all {
		if slices.Contains(s.topics, p.Topic) {
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

// positions returns how far each partition of the topics has been read: what was delivered before
// is in the queues.
func (h *Hub) positions(topics []string) cursor {
	h.mu.RLock()
	defer h.mu.RUnlock()
	at := make(cursor)
	for _, topic := range topics {
		for id, part := range h.topics[topic] {
			at[consumer.Partition{Topic: topic, ID: id}] = part.next.Load()
		}
	}
	return at
}

// seam is positions for a subscription that was added before: it waits for a delivery under way,
// so that records before them come by replay and all others are queued. It also returns the topics
// as ids name them.
func (h *Hub) seam(topics []string) (cursor, []feedTopic) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	at := make(cursor)
	named := make([]feedTopic, 0, len(topics))
	for _, topic := range topics {
		var topicID [16]byte
		for id, part := range h.topics[topic] {
			part.mu.Lock()
			topicID = part.topicID
			at[consumer.Partition{Topic: topic, ID: id}] = part.next.Load()
			part.mu.Unlock()
		}
		named = append(named, newFeedTopic(topic, topicID))
	}
	return at, named
}

// IDAfter returns an event id from which a stream over topics goes on behind the written record.
// In other partitions it goes on from where this replica has read to, which may be before records
// that were written earlier; topics that are not read here start at now. It returns false if the
// record's own topic is not read here and has several partitions.
func (h *Hub) IDAfter(topics []string, w consumer.Written) (string, bool) {
	at, named := h.seam(topics)
	if _, read := at[w.Partition]; !read && w.Partitions > 1 {
		return "", false
	}
	at[w.Partition] = w.Offset + 1
	for i := range named {
		if named[i].name == w.Topic {
			named[i] = newFeedTopic(w.Topic, w.TopicID)
		}
	}
	named = slices.DeleteFunc(named, func(t feedTopic) bool {
		for p := range at {
			if p.Topic == t.name {
				return false
			}
		}
		return true
	})
	return encodeID(named, at), true
}
