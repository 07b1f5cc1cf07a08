package stream

import (
	"cmp"
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

	larges     *larges
	interleave func() // for tests: called before and after positions are read

	mu     sync.RWMutex
	topics map[string]*hubTopic
	users  map[string][]*subscription
}

// hubTopic is one that is read, or that a stream waits for.
type hubTopic struct {
	topicCursor                 // without positions: how ids name the topic
	partitions  []*hubPartition // sorted
	readers     map[*subscription]struct{}
}

// hubPartition is how far a hubPartition has been read. next is written with mu held over the delivery
// of all records before it.
type hubPartition struct {
	id    int32
	mu    sync.Mutex
	event []byte // of the record being delivered: its lines, encoded once for all streams
	next  atomic.Int64
}

// NewHub returns a hub without streams. typeHeader names the record header that holds the event
// type. registry, which may be nil, gets the metrics of all streams.
func NewHub(typeHeader string, registry prometheus.Registerer) *Hub {
	return &Hub{
		typeHeader: typeHeader,
		metrics:    newMetrics(registry),
		larges:     newLarges(),
		interleave: func() {},
		topics:     make(map[string]*hubTopic),
		users:      make(map[string][]*subscription),
	}
}

var _ consumer.Sink = (*Hub)(nil)

// ensureTopicLocked returns the ensureTopicLocked, which is made if there is none. h.mu is held.
func (h *Hub) ensureTopicLocked(name string) *hubTopic {
	t := h.topics[name]
	if t == nil {
		t = &hubTopic{topicCursor: newTopicCursor(name, absent), readers: make(map[*subscription]struct{})}
		h.topics[name] = t
	}
	return t
}

// forgetTopicIfUnusedLocked forgets a topic that is not read and that nobody waits for. h.mu is held.
func (h *Hub) forgetTopicIfUnusedLocked(name string) {
	if t := h.topics[name]; t != nil && len(t.partitions) == 0 && len(t.readers) == 0 {
		delete(h.topics, name)
	}
}

// Begin implements [consumer.Sink].
func (h *Hub) Begin(p consumer.Partition, topicID [16]byte, next int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.ensureTopicLocked(p.Topic)
	if t.topicID != topicID {
		t.incarnation = newIncarnation(topicID)
	}
	part := &hubPartition{id: p.ID}
	part.next.Store(next)
	if i, known := t.searchPartition(p.ID); known {
		t.partitions[i] = part
	} else {
		t.partitions = slices.Insert(t.partitions, i, part)
	}
	for s := range t.readers {
		s.requestCatchUp()
	}
}

// End implements [consumer.Sink].
func (h *Hub) End(p consumer.Partition) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.ensureTopicLocked(p.Topic)
	if i, known := t.searchPartition(p.ID); known {
		t.partitions = slices.Delete(t.partitions, i, i+1)
	}
	if len(t.partitions) == 0 {
		t.incarnation = absent
	}
	h.forgetTopicIfUnusedLocked(p.Topic)
}

// Deliver implements [consumer.Sink].
func (h *Hub) Deliver(p consumer.Partition, records []consumer.Record, next int64) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	t, part := h.findPartitionLocked(p)
	if part == nil {
		return
	}
	part.mu.Lock()
	defer part.mu.Unlock()
	for i := range records {
		h.queueRecordLocked(t, part, p, &records[i])
	}
	if cap(part.event) > keepBuffer {
		part.event = nil
	}
	part.next.Store(next)
}

// findPartitionLocked returns a partition that is read, nil if it is not. h.mu is held.
func (h *Hub) findPartitionLocked(p consumer.Partition) (*hubTopic, *hubPartition) {
	t := h.topics[p.Topic]
	if t == nil {
		return nil, nil
	}
	i, known := t.searchPartition(p.ID)
	if !known {
		return nil, nil
	}
	return t, t.partitions[i]
}

func (t *hubTopic) searchPartition(id int32) (int, bool) {
	return slices.BinarySearchFunc(t.partitions, id, func(p *hubPartition, id int32) int { return cmp.Compare(p.id, id) })
}

// queueRecordLocked gives the record to the streams it is for. h.mu and part.mu are held.
func (h *Hub) queueRecordLocked(t *hubTopic, part *hubPartition, p consumer.Partition, r *consumer.Record) {
	users := h.users[string(r.User)]
	switch {
	case r.Value == nil: // a tombstone is no notification
		h.metrics.tombstones.Inc()
	case r.Broadcast && len(t.readers) > 0:
		it := h.encodeRecordLocked(part, p, r)
		for s := range t.readers {
			s.pushRecord(it, part.event)
		}
	case !r.Broadcast && len(users) > 0:
		it := h.encodeRecordLocked(part, p, r)
		for _, s := range users {
			s.pushRecord(it, part.event)
		}
	}
}

// encodeRecordLocked makes the record's event: in part.event, or the item's own if it is large. part.mu is held.
func (h *Hub) encodeRecordLocked(part *hubPartition, p consumer.Partition, r *consumer.Record) item {
	eventType := eventTypeOf(r, h.typeHeader)
	it := item{partition: p, offset: r.Offset, eventType: eventType, large: h.larges.shareEvent(eventType, r.Value)}
	part.event = part.event[:0]
	if it.large == nil {
		part.event = appendRecord(part.event, eventType, r.Value)
	}
	return it
}

// Gap implements [consumer.Sink]. What a stream has lost by it depends on the stream's own cursor:
// replay from there meets the same gap.
func (h *Hub) Gap(p consumer.Partition, gap consumer.Gap) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	t, part := h.findPartitionLocked(p)
	if part == nil {
		return
	}
	part.mu.Lock()
	defer part.mu.Unlock()
	for s := range t.readers { // before the position moves, or a stream could follow it over the gap
		s.requestCatchUp()
	}
	part.next.Store(gap.To)
}

func (h *Hub) addSubscription(s *subscription) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.users[s.user] = append(h.users[s.user], s)
	for i := range s.topics {
		name := s.topics[i].Topic
		h.ensureTopicLocked(name).readers[s] = struct{}{}
	}
}

func (h *Hub) removeSubscription(s *subscription) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range s.topics {
		name := s.topics[i].Topic
		delete(h.topics[name].readers, s)
		h.forgetTopicIfUnusedLocked(name)
	}
	left := slices.DeleteFunc(h.users[s.user], func(o *subscription) bool { return o == s })
	if len(left) == 0 {
		delete(h.users, s.user)
		return
	}
	h.users[s.user] = left
}

var cursors = sync.Pool{New: func() any { return new(cursor) }}

// positions returns how far the sources, which are sorted, have been read: what was delivered before
// is in the queues. It is to be put back into cursors.
func (h *Hub) positions(sources []consumer.UserTopic) *cursor {
	at := cursors.Get().(*cursor) //nolint:forcetypeassert // nothing else is in there
	*at = h.readPositions(*at, sources, false)
	return at
}

// seam is positions for a subscription that was added, or let in again, before: it waits for a
// delivery under way, so that records before them come by replay and all others are queued.
func (h *Hub) seam(sources []consumer.UserTopic) cursor { return h.readPositions(nil, sources, true) }

// readPositions takes the place of what at has.
func (h *Hub) readPositions(at cursor, sources []consumer.UserTopic, wait bool) cursor {
	h.interleave()
	defer h.interleave()
	h.mu.RLock()
	defer h.mu.RUnlock()
	at = slices.Grow(at[:0], len(sources))[:len(sources)]
	for i := range sources {
		name := sources[i].Topic
		t := h.topics[name]
		if t == nil {
			at[i] = newTopicCursor(name, absent)
			continue
		}
		s := t.topicCursor
		s.positions = slices.Grow(at[i].positions[:0], len(t.partitions))
		for _, part := range t.partitions {
			if wait {
				part.mu.Lock()
			}
			s.positions = append(s.positions, position{partition: part.id, next: part.next.Load()})
			if wait {
				part.mu.Unlock()
			}
		}
		at[i] = s
	}
	return at
}

// startCursor is seam for a stream of user that begins: of a topic of which it has some partitions only, with
// those. With an empty user it is with all.
func (h *Hub) startCursor(sources []consumer.UserTopic, user string) cursor {
	at := h.seam(sources)
	for i := range sources {
		if homes := sources[i].Homes; homes != nil && user != "" {
			at[i] = at[i].atHomes(user, homes)
		}
	}
	return at
}

// IDAfter returns an event id from which a stream of user over the sources, which are sorted, goes on
// behind the written record. In other partitions it goes on from where this replica has read to, which
// may be before records that were written earlier; topics that are not read here start at now, and
// a gap tells that. With an empty user it is an id for everyone, and names the partitions of all. It
// returns false if the record's own topic is not read here and has several partitions.
func (h *Hub) IDAfter(sources []consumer.UserTopic, user string, w consumer.Written) (string, bool) {
	awaited := h.awaitedTopics(sources) // before the positions: of what begins in between there are some
	at := h.startCursor(sources, user)
	own := at.topic(w.Topic)
	if own == nil || len(own.positions) == 0 && w.Partitions > 1 {
		return "", false
	}
	if own.topicID != w.TopicID {
		*own = newTopicCursor(w.Topic, newIncarnation(w.TopicID))
	}
	own.setNextOffset(w.ID, w.Offset+1)
	at = slices.DeleteFunc(at, func(s topicCursor) bool { return len(s.positions) == 0 && !awaited[s.name] })
	return string(appendID(nil, at)), true
}

// awaitedTopics are those of the sources' topics that are read here or that streams know not to exist.
func (h *Hub) awaitedTopics(sources []consumer.UserTopic) map[string]bool {
	h.mu.RLock()
	defer h.mu.RUnlock()
	awaited := make(map[string]bool)
	for _, s := range sources {
		awaited[s.Topic] = h.topics[s.Topic] != nil
	}
	return awaited
}
