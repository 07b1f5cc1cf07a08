package stream

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"herald/consumer"
)

// Hub queues live records for the open streams of their users. It is a [consumer.Sink].
type Hub struct {
	typeHeader string
	headers    []string // the record headers that streams may show
	metrics    *metrics
	tracer     trace.Tracer              // nil: no record is traced
	template   func(topic string) string // for tracer

	larges     *larges
	interleave func() // called before and after positions are read; in the simulation, other events happen then

	mu     sync.RWMutex
	topics map[string]*hubTopic
	users  map[string]*subscription  // each user's newest stream, which leads to the others
	values map[claimValue]*readerSet // the streams whose viewers have the value of the claim
	common []consumer.UserTopic      // the topics of the last stream, which streams with the same topics share
}

// hubTopic is a topic that is read, or that a stream waits for.
type hubTopic struct {
	topicCursor                 // without positions; it says how ids name the topic
	partitions  []*hubPartition // sorted
	readers     topicReaders
}

// hubPartition is a partition that is read. Its lock is held while records are delivered, until next is the
// offset after them. Nobody waits for it who holds the hub's lock: a broadcast to many streams takes long.
type hubPartition struct {
	consumer.Partition
	mu   sync.Mutex
	next atomic.Int64 // the offset that is read next

	encodings encodings // of the record that is being delivered
	delivered time.Time // when the hub got that record
}

// NewHub returns a hub without streams. typeHeader names the record header that holds the event
// type. registry, which may be nil, gets the metrics of all streams. headers name the record headers that a client
// may ask for.
func NewHub(typeHeader string, registry prometheus.Registerer, headers ...string) *Hub {
	return &Hub{
		typeHeader: typeHeader,
		headers:    headers,
		metrics:    newMetrics(registry),
		larges:     newLarges(),
		interleave: func() {},
		topics:     make(map[string]*hubTopic),
		users:      make(map[string]*subscription),
		values:     make(map[claimValue]*readerSet),
	}
}

var _ consumer.Sink = (*Hub)(nil)

// ensureTopicLocked returns the topic. It adds the topic if the hub does not have it.
func (h *Hub) ensureTopicLocked(name string) *hubTopic {
	t := h.topics[name]
	if t == nil {
		t = &hubTopic{topicCursor: newTopicCursor(name, absent), readers: topicReaders{topic: name}}
		h.topics[name] = t
	}
	return t
}

// forgetTopicIfUnusedLocked forgets a topic that is not read and that no stream waits for.
func (h *Hub) forgetTopicIfUnusedLocked(name string) {
	if t := h.topics[name]; t != nil && len(t.partitions) == 0 && t.readers.count() == 0 {
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
	part := &hubPartition{Partition: p}
	part.next.Store(next)
	if i, known := t.searchPartition(p.ID); known {
		t.partitions[i] = part
	} else {
		t.partitions = slices.Insert(t.partitions, i, part)
	}
	t.readers.visit((*subscription).requestCatchUp)
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
	t, part := h.findPartition(p)
	if part == nil {
		return
	}
	part.mu.Lock()
	defer part.mu.Unlock()
	part.delivered = time.Now()
	if len(records) > 0 && records[0].HasFormat() { // then all records of the topic have
		for i := range records {
			h.decodeIfWanted(t, &records[i])
			h.queueDeliveryLocked(t, part, p, records[i:i+1])
			records[i] = consumer.Record{} // a decoded value may be large, so only one is in memory
		}
	} else {
		h.queueDeliveryLocked(t, part, p, records)
	}
	part.encodings.end()
	part.next.Store(next)
}

// queueDeliveryLocked queues the records of a topic for the streams that they are for. The lock of the partition is held.
func (h *Hub) queueDeliveryLocked(t *hubTopic, part *hubPartition, p consumer.Partition, records []consumer.Record) {
	if len(records) > 0 && (records[0].Broadcast || records[0].Claim != "") { // then all records of the topic are or have
		h.broadcastRecordsLocked(t, part, p, records)
	} else {
		h.queueRecordsLocked(part, p, records)
	}
}

// findPartition returns a partition; nil if it is not read. The consumer does not begin or end a partition while
// it calls the hub with the partition's records.
func (h *Hub) findPartition(p consumer.Partition) (*hubTopic, *hubPartition) {
	h.mu.RLock()
	defer h.mu.RUnlock()
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
	return slices.BinarySearchFunc(t.partitions, id, func(p *hubPartition, id int32) int { return cmp.Compare(p.ID, id) })
}

// queueRecordsLocked queues each record for the streams of its user. The lock of the partition is held.
func (h *Hub) queueRecordsLocked(part *hubPartition, p consumer.Partition, records []consumer.Record) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	queued := 0
	for i := range records {
		r := &records[i]
		if r.Value == nil {
			h.metrics.tombstones.Inc()
		}
		part.encodings.begin()
		traced := h.traceRecord(p, r)
		for s := h.users[string(r.User)]; s != nil; s = s.older {
			if s.wantsRecord(r) {
				e := h.encodeRecordLocked(part, p, r, s.shape, false)
				queued += s.pushRecord(e.item, e.lines, traced)
			}
		}
	}
	h.metrics.queued.Add(int64(queued))
}

// broadcastRecordsLocked queues each record for all streams that have the topic or, if the topic has a claim, for the
// streams whose viewers have the value that the record is for. The lock of the partition is held.
func (h *Hub) broadcastRecordsLocked(t *hubTopic, part *hubPartition, p consumer.Partition, records []consumer.Record) {
	for i := range records {
		r := &records[i]
		if r.Value == nil {
			h.metrics.tombstones.Inc()
		}
		readers := h.readersOf(t, r)
		if readers == nil {
			continue
		}
		part.encodings.begin()
		queued, streams, traced := 0, 0, h.traceRecord(p, r)
		readers.visit(func(s *subscription) {
			if s.wantsRecord(r) {
				queued += s.pushRecord(h.encodeRecordLocked(part, p, r, s.shape, true).item, nil, nil)
				streams++
			}
		})
		h.metrics.queued.Add(int64(queued))
		traced.endBroadcast(streams)
	}
}

// Gap implements [consumer.Sink]. The records that a stream loses depend on the stream's own cursor. So each
// stream catches up, and its replay meets the same gap.
func (h *Hub) Gap(p consumer.Partition, gap consumer.Gap) {
	t, part := h.findPartition(p)
	if part == nil {
		return
	}
	part.mu.Lock()
	defer part.mu.Unlock()
	t.readers.visit((*subscription).requestCatchUp) // before next moves; otherwise a stream could advance over the gap with it
	part.next.Store(gap.To)
}

var cursors = sync.Pool{New: func() any { return new(cursor) }}

// positions returns how far the topics have been read, which are sorted by name. All records before these
// positions are in the queues, except records of a delivery under way. The caller returns the cursor to the
// pool cursors.
func (h *Hub) positions(sources []consumer.UserTopic) *cursor {
	at := cursors.Get().(*cursor) //nolint:forcetypeassert // nothing else is in there
	*at = h.readPositions(*at, sources, nil)
	return at
}

// seam returns the seam between replay and live delivery: for each partition the offset from which on records
// are queued. The caller's subscription must have been added, and must accept live records. Records before the
// seam come by replay. seam takes each partition's lock, so that it waits for a delivery under way. It does not
// hold the hub's lock meanwhile. If partitions begin meanwhile, the seam lacks them, and the stream catches up
// again.
func (h *Hub) seam(sources []consumer.UserTopic) cursor {
	var parts []*hubPartition
	at := h.readPositions(nil, sources, &parts)
	for i := range at {
		for j := range at[i].positions {
			part := parts[0]
			parts = parts[1:]
			part.mu.Lock()
			at[i].positions[j].next = part.next.Load()
			part.mu.Unlock()
		}
	}
	h.interleave()
	return at
}

// readPositions reads the positions of the topics into at, whose contents it replaces. It appends the
// partitions to parts, which may be nil.
func (h *Hub) readPositions(at cursor, sources []consumer.UserTopic, parts *[]*hubPartition) cursor {
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
			s.positions = append(s.positions, position{partition: part.ID, next: part.next.Load()})
		}
		if parts != nil {
			*parts = append(*parts, t.partitions...)
		}
		at[i] = s
	}
	return at
}

// startCursor returns the seam as the cursor of a new stream. Where the topic's route names a partitioner, the
// cursor has only the user's homes. With an empty user it has all partitions.
func (h *Hub) startCursor(sources []consumer.UserTopic, user string) cursor {
	at := h.seam(sources)
	for i := range sources {
		if homes := sources[i].Homes; homes != nil && user != "" {
			at[i] = at[i].atHomes(user, homes)
		}
	}
	return at
}

// IDAfter returns an event id from which a stream of user continues after the written record. The topics are
// sorted by name. In other partitions the stream continues from the offset that this replica has read up to, so
// it may get records that were written before this one. Topics that are not read here start at now, and a gap
// reports them. With an empty user the id is for everyone and names all partitions. IDAfter returns false if the
// record's own topic is not read here and has several partitions.
func (h *Hub) IDAfter(sources []consumer.UserTopic, user string, w consumer.Written) (string, bool) {
	awaited := h.awaitedTopics(sources) // before the positions: a topic that begins in between then has positions
	at := h.startCursor(sources, user)
	own := at.topic(w.Topic)
	if own == nil || len(own.positions) == 0 && w.Partitions > 1 {
		return "", false
	}
	known := !consumer.IsLocalID(own.topicID) && !consumer.IsLocalID(w.TopicID)
	if own.topicID != w.TopicID && (known || own.topicID == absent.topicID) {
		*own = newTopicCursor(w.Topic, newIncarnation(w.TopicID))
	}
	own.setNextOffset(w.ID, w.Offset+1)
	at = slices.DeleteFunc(at, func(s topicCursor) bool { return len(s.positions) == 0 && !awaited[s.name] })
	return string(appendID(nil, at)), true
}

// awaitedTopics returns the topics that are read here or that a stream waits for.
func (h *Hub) awaitedTopics(sources []consumer.UserTopic) map[string]bool {
	h.mu.RLock()
	defer h.mu.RUnlock()
	awaited := make(map[string]bool)
	for _, s := range sources {
		awaited[s.Topic] = h.topics[s.Topic] != nil
	}
	return awaited
}
