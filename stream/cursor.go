package stream

import (
	"cmp"
	"slices"
)

// incarnation is one topic: what is deleted and created again under the same name is another one,
// whose offsets have nothing to do with the first's (KIP-516).
type incarnation struct {
	topicID        [16]byte // Kafka's topic id; zero if the topic does not exist
	incarnationTag string   // a hash of it, as event ids have it
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

// topicCursor is how far one topic has been read. A partition that is missing was not read yet: it is
// read from its start as far as the limits allow, or, if the topicCursor is homed, is not the stream's.
type topicCursor struct {
	name    string
	nameTag string // a hash of the topic's name, as event ids have it
	incarnation
	positions []position // sorted by partition
	since     int64      // milliseconds since 1970, for positions that are sought; 0: the start of the log
	homed     bool       // see home.go
}

func newTopicCursor(topic string, i incarnation) topicCursor {
	return topicCursor{name: topic, nameTag: tag(topic), incarnation: i}
}

func (s *topicCursor) nextOffset(partition int32) int64 {
	if i, ok := s.findPosition(partition); ok {
		return s.positions[i].next
	}
	return 0
}

func (s *topicCursor) setNextOffset(partition int32, next int64) {
	p := s.ensurePosition(partition)
	p.next, p.sought = next, false
}

// beginPartition is set to where the stream begins in the partition, before the limits are looked at.
func (s *topicCursor) beginPartition(partition int32, next int64) {
	*s.ensurePosition(partition) = position{partition: partition, next: next, fresh: true}
}

// seekPartition is begin where Kafka has yet to tell where the stream begins: next is where it does at the latest.
func (s *topicCursor) seekPartition(partition int32, next, since int64) {
	*s.ensurePosition(partition) = position{partition: partition, next: next, fresh: true, sought: true}
	s.since = since
}

// acceptPosition is set of a position that the limits allow.
func (s *topicCursor) acceptPosition(partition int32, next int64) {
	*s.ensurePosition(partition) = position{partition: partition, next: next}
}

// isSought says whether Kafka has yet to tell where the stream begins in the partition.
func (s *topicCursor) isSought(partition int32) bool {
	i, ok := s.findPosition(partition)
	return ok && s.positions[i].sought
}

// isFresh says whether the limits were not looked at yet.
func (s *topicCursor) isFresh(partition int32) bool {
	i, ok := s.findPosition(partition)
	return !ok || s.positions[i].fresh
}

func (s *topicCursor) findPosition(partition int32) (int, bool) {
	return slices.BinarySearchFunc(s.positions, partition, func(p position, id int32) int { return cmp.Compare(p.partition, id) })
}

// ensurePosition returns that of the partition, a new one if there is none. It is good until another one is added.
func (s *topicCursor) ensurePosition(partition int32) *position {
	i, ok := s.findPosition(partition)
	if !ok {
		s.positions = slices.Insert(s.positions, i, position{partition: partition})
	}
	return &s.positions[i]
}

// cursor is how far a stream has come in each of its topics, sorted by name.
type cursor []topicCursor

// topic returns the topic's part of the cursor; nil if it has none.
func (c cursor) topic(topic string) *topicCursor {
	i, ok := slices.BinarySearchFunc(c, topic, func(s topicCursor, name string) int { return cmp.Compare(s.name, name) })
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

// indexOfLargestTopic returns which source has the most positions; the cursor has one at least.
func (c cursor) indexOfLargestTopic() (largest int) {
	for i := range c {
		if len(c[i].positions) > len(c[largest].positions) {
			largest = i
		}
	}
	return largest
}
