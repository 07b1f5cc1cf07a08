package stream

import (
	"cmp"
	"slices"
)

// incarnation is one topic: what is deleted and created again under the same name is another one,
// whose offsets have nothing to do with the first's (KIP-516).
type incarnation struct {
	id  [16]byte // Kafka's topic id; zero if the topic does not exist
	tag string   // a hash of it, as event ids have it
}

func newIncarnation(id [16]byte) incarnation {
	return incarnation{id, tag(string(id[:]))}
}

// absent is the incarnation of a topic that does not exist.
var absent = newIncarnation([16]byte{})

// position is how far one partition has been read.
type position struct {
	partition int32
	fresh     bool  // it is still to be held against the limits
	sought    bool  // it is to be moved back to where source.since is, once Kafka tells
	next      int64 // the next offset to consider
}

// source is how far one topic has been read. A partition that is missing was not read yet: it is
// read from its start as far as the limits allow, or, if the source is homed, is not the stream's.
type source struct {
	topic string
	tag   string // a hash of the topic's name, as event ids have it
	incarnation
	positions []position // sorted by partition
	since     int64      // milliseconds since 1970, for positions that are sought; 0: the start of the log
	homed     bool       // see home.go
}

func newSource(topic string, i incarnation) source {
	return source{topic: topic, tag: tag(topic), incarnation: i}
}

func (s *source) next(partition int32) int64 {
	if i, ok := s.find(partition); ok {
		return s.positions[i].next
	}
	return 0
}

func (s *source) set(partition int32, next int64) {
	p := s.position(partition)
	p.next, p.sought = next, false
}

// begin is set to where the stream begins in the partition, before the limits are looked at.
func (s *source) begin(partition int32, next int64) {
	*s.position(partition) = position{partition: partition, next: next, fresh: true}
}

// seek is begin where Kafka has yet to tell where the stream begins: next is where it does at the latest.
func (s *source) seek(partition int32, next, since int64) {
	*s.position(partition) = position{partition: partition, next: next, fresh: true, sought: true}
	s.since = since
}

// hold is set of a position that the limits allow.
func (s *source) hold(partition int32, next int64) {
	*s.position(partition) = position{partition: partition, next: next}
}

// sought says whether Kafka has yet to tell where the stream begins in the partition.
func (s *source) sought(partition int32) bool {
	i, ok := s.find(partition)
	return ok && s.positions[i].sought
}

// fresh says whether the limits were not looked at yet.
func (s *source) fresh(partition int32) bool {
	i, ok := s.find(partition)
	return !ok || s.positions[i].fresh
}

func (s *source) find(partition int32) (int, bool) {
	return slices.BinarySearchFunc(s.positions, partition, func(p position, id int32) int { return cmp.Compare(p.partition, id) })
}

// position returns that of the partition, a new one if there is none. It is good until another one is added.
func (s *source) position(partition int32) *position {
	i, ok := s.find(partition)
	if !ok {
		s.positions = slices.Insert(s.positions, i, position{partition: partition})
	}
	return &s.positions[i]
}

// cursor is how far a stream has come in each of its topics, sorted by name.
type cursor []source

// source returns the topic's part of the cursor; nil if it has none.
func (c cursor) source(topic string) *source {
	i, ok := slices.BinarySearchFunc(c, topic, func(s source, name string) int { return cmp.Compare(s.topic, name) })
	if !ok {
		return nil
	}
	return &c[i]
}

// since returns the time from which partitions are sought, the same for all of them; false if none are.
func (c cursor) since() (ms int64, seeks bool) {
	for i := range c {
		if slices.ContainsFunc(c[i].positions, func(p position) bool { return p.sought }) {
			return c[i].since, true
		}
	}
	return 0, false
}

// largest returns which source has the most positions; the cursor has one at least.
func (c cursor) largest() (largest int) {
	for i := range c {
		if len(c[i].positions) > len(c[largest].positions) {
			largest = i
		}
	}
	return largest
}
