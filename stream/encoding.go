package stream

import (
	"slices"

	"herald/consumer"
)

// encoding is the event of a live record in one shape.
type encoding struct {
	shape shape
	item  item
	lines []byte // for a queue of its own; empty if the item has the lines
}

// encodings are the events of the record that is being delivered, one for each shape among the streams that get it.
// Most records have one encoding. Later records use the memory of its lines again.
type encodings struct {
	list []encoding
}

// keepEncodings is how many encodings keep their memory between two deliveries.
const keepEncodings = 4

// begin forgets the record before.
func (e *encodings) begin() {
	for i := range e.list {
		e.list[i].item = item{} // a large event is freed when no stream has it
	}
	e.list = e.list[:0]
}

// end forgets the last record of a delivery, and memory that few records need.
func (e *encodings) end() {
	e.begin()
	if cap(e.list) > keepEncodings {
		e.list = nil
	}
	for i := range e.list[:cap(e.list)] {
		if lines := &e.list[:cap(e.list)][i].lines; cap(*lines) > keepBuffer {
			*lines = nil
		}
	}
}

// find returns the encoding of a shape; nil if no stream of this shape has got the record yet.
func (e *encodings) find(s shape) *encoding {
	for i := range e.list {
		if e.list[i].shape == s {
			return &e.list[i]
		}
	}
	return nil
}

// add adds an encoding. Its lines may have the memory of an earlier record's. The pointer is good until another one is added.
func (e *encodings) add() *encoding {
	n := len(e.list)
	e.list = slices.Grow(e.list, 1)[:n+1]
	return &e.list[n]
}

// encodeRecordLocked returns the record's event in a shape. With share, all queues share the lines of the event: if each
// of very many queues had a copy, the copies would take the size of the event times the number of queues. The lock of
// the partition is held.
func (h *Hub) encodeRecordLocked(part *hubPartition, p consumer.Partition, r *consumer.Record, s shape, share bool) *encoding {
	if e := part.encodings.find(s); e != nil {
		return e
	}
	e := part.encodings.add()
	if err := r.Decode(); err != nil {
		*e = encoding{shape: s, item: item{partition: &part.Partition, offset: r.Offset, eventType: h.eventTypeOf(r), shared: markOf(err)}, lines: e.lines[:0]}
		return e
	}
	eventType := h.eventTypeOf(r)
	lines, large := h.appendRecord(e.lines[:0], s, p, eventType, r)
	times := h.metrics.delays.timesOf(r.Time, part.delivered)
	*e = encoding{shape: s, item: item{partition: &part.Partition, offset: r.Offset, eventType: eventType, large: large, times: times}, lines: lines}
	if share && len(lines) > 0 {
		shared := slices.Clone(lines)
		e.item.shared, e.lines = &shared, lines[:0]
	}
	return e
}

// wantsRecord reports whether streams of the shape get the record at all. Tombstones are only for clients that ask for
// fields: those clients are written for Herald.
func (s shape) wantsRecord(r *consumer.Record) bool { return r.Value != nil || s.has(showFields) }

// eventTypeOf returns the type of a record's event, which the format of the route or the record's type header names.
func (h *Hub) eventTypeOf(r *consumer.Record) string {
	if r.Value == nil {
		return TypeDelete
	}
	switch name, known := r.EventType(); {
	case !known:
		return typeUnknown
	case name != "" && CheckType(name) == nil:
		return name
	}
	if eventType, ok := r.Header(h.typeHeader); ok && CheckType(string(eventType)) == nil {
		return string(eventType)
	}
	return TypeMessage
}

// appendRecord appends the event of a record in a shape, without its id. If the event is large, appendRecord leaves
// out the part that other streams can share, and returns it as a large event to send after b. Live records and
// replayed ones are encoded here, so that a client gets the same bytes in both ways.
//
// Of a large event, each stream has its own copy of the fields, such as the record's offset. All records and shapes with
// the same value share the rest. If the fields are large themselves, streams share the whole event.
func (h *Hub) appendRecord(b []byte, s shape, p consumer.Partition, eventType string, r *consumer.Record) ([]byte, *large) {
	if h.fieldsSize(s, r) >= h.larges.least {
		return b, h.larges.shareEvent(h.appendFields(nil, s, p, eventType, r), s, eventType, r.Value)
	}
	b = h.appendFields(b, s, p, eventType, r)
	if len(r.Value) >= h.larges.least {
		return b, h.larges.shareEvent(nil, s, eventType, r.Value)
	}
	return appendValue(b, s, eventType, r.Value), nil
}

// appendFields appends the part of an event that depends on more than its type and value.
func (h *Hub) appendFields(b []byte, s shape, p consumer.Partition, eventType string, r *consumer.Record) []byte {
	if !s.has(showEnvelope) {
		return h.appendFieldLines(b, s, p, r)
	}
	b = append(appendType(b, eventType), "data: {"...)
	return h.appendFieldMembers(b, s, p, r)
}

// appendValue appends the part of an event after [Hub.appendFields], and the blank line that ends the event.
func appendValue(b []byte, s shape, eventType string, value []byte) []byte {
	if !s.has(showEnvelope) {
		return appendRecord(b, eventType, value)
	}
	return append(appendDataMember(b, value), "\n\n"...)
}
