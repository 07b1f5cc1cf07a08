package stream

import (
	"cmp"
	"fmt"
	"slices"

	"herald/consumer"
)

// incarnation identifies a topic from its creation to its deletion. A topic that is created again under the same
// name is another incarnation, and the offsets of the two are unrelated (KIP-516).
type incarnation struct {
	topicID        [16]byte // Kafka's topic id, or a local id ([consumer.IsLocalID]); zero if the topic does not exist, or in an event id
	incarnationTag string   // a hash of the topic id, as event ids contain it; or unknownTag
}

// unknownTag is the tag of all topics whose ids Kafka has not reported.
var unknownTag = tag("unknown")

// earlierID takes the place of the topic id if a stream resumes when the topic does not exist. Without Kafka's ids, a
// topic that appears later is another topic: at the old positions, the stream would miss its first records.
var earlierID = [16]byte{0xff}

func newIncarnation(id [16]byte) incarnation {
	if consumer.IsLocalID(id) {
		return incarnation{id, unknownTag}
	}
	return incarnation{id, tag(string(id[:]))}
}

// isSame reports whether the two are the same incarnation, as far as this replica can know. An event id from a replica
// that does not know Kafka's id of the topic may be of any incarnation.
func (i incarnation) isSame(other incarnation) bool {
	switch {
	case i.topicID == earlierID || other.topicID == earlierID:
		return i.incarnationTag == other.incarnationTag && i.incarnationTag != unknownTag
	case i.incarnationTag == absent.incarnationTag || other.incarnationTag == absent.incarnationTag:
		return i.incarnationTag == other.incarnationTag
	case i.topicID != absent.topicID && other.topicID != absent.topicID:
		return i.topicID == other.topicID
	}
	return i.incarnationTag == other.incarnationTag || i.incarnationTag == unknownTag || other.incarnationTag == unknownTag
}

// absent is the incarnation of a topic that does not exist.
var absent = newIncarnation([16]byte{})

// position is how far a stream has come in one partition.
type position struct {
	partition int32
	fresh     bool  // the limits have not been applied to it yet
	sought    bool  // Kafka has not yet said at which offset topicCursor.since is; next is the latest possible offset
	next      int64 // the next offset to consider
}

// topicCursor is how far a stream has come in one topic. A partition without a position has not been read yet:
// the stream reads it from its start, as far as the limits allow. If the topicCursor is homed, such a partition
// is not a partition of the stream.
type topicCursor struct {
	name    string
	nameTag string // a hash of the topic's name, as event ids contain it
	incarnation
	positions []position // sorted by partition
	since     int64      // the time from which sought positions begin, in milliseconds since 1970; 0: the start of the log
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

// beginPartition sets the offset at which the stream begins in the partition. The limits apply to it later.
func (s *topicCursor) beginPartition(partition int32, next int64) {
	*s.ensurePosition(partition) = position{partition: partition, next: next, fresh: true}
}

// seekPartition notes that the stream begins in the partition at the first record of the time since or later,
// and that Kafka has not yet said at which offset that is. next is the latest possible offset.
func (s *topicCursor) seekPartition(partition int32, next, since int64) {
	*s.ensurePosition(partition) = position{partition: partition, next: next, fresh: true, sought: true}
	s.since = since
}

// acceptPosition sets the offset at which the stream begins in the partition, after the limits were applied.
func (s *topicCursor) acceptPosition(partition int32, next int64) {
	*s.ensurePosition(partition) = position{partition: partition, next: next}
}

// isSought reports whether the partition's position is sought.
func (s *topicCursor) isSought(partition int32) bool {
	i, ok := s.findPosition(partition)
	return ok && s.positions[i].sought
}

// isFresh reports whether the limits have still to be applied to the partition.
func (s *topicCursor) isFresh(partition int32) bool {
	i, ok := s.findPosition(partition)
	return !ok || s.positions[i].fresh
}

func (s *topicCursor) findPosition(partition int32) (int, bool) {
	return slices.BinarySearchFunc(s.positions, partition, func(p position, id int32) int { return cmp.Compare(p.partition, id) })
}

// ensurePosition returns the position of the partition, and adds it if there is none. The pointer is good until
// another position is added.
func (s *topicCursor) ensurePosition(partition int32) *position {
	i, ok := s.findPosition(partition)
	if !ok {
		s.positions = slices.Insert(s.positions, i, position{partition: partition})
	}
	return &s.positions[i]
}

// cursor is how far a stream has come in each of its topics, sorted by name.
type cursor []topicCursor

// newCursorCopy returns a copy of the cursor. The caller returns it to the pool cursors.
func newCursorCopy(from cursor) *cursor {
	c := cursors.Get().(*cursor) //nolint:forcetypeassert // nothing else is in there
	c.copyFrom(from)
	return c
}

// copyFrom replaces the contents of the cursor by a copy of another one's. It shares no memory with the other one.
func (c *cursor) copyFrom(from cursor) {
	to := slices.Grow((*c)[:0], len(from))[:len(from)]
	for i := range from {
		positions := append(to[i].positions[:0], from[i].positions...)
		to[i] = from[i]
		to[i].positions = positions
	}
	*c = to
}

// advance moves the positions of the cursor forward to the positions of now, except in partitions that wait for Kafka.
// It returns by how many offsets.
func (c cursor) advance(now cursor, waiting map[consumer.Partition]struct{}) (moved int64) {
	for i := range now {
		topic := &c[i]
		if topic.incarnation != now[i].incarnation {
			continue
		}
		for _, p := range now[i].positions {
			from := topic.nextOffset(p.partition)
			if from >= p.next || !topic.hasPartition(p.partition) {
				continue
			}
			if _, waits := waiting[consumer.Partition{Topic: topic.name, ID: p.partition}]; !waits {
				topic.setNextOffset(p.partition, p.next)
				moved += p.next - from
			}
		}
	}
	return moved
}

// topic returns the topic's part of the cursor; nil if it has none.
func (c cursor) topic(topic string) *topicCursor {
	i, ok := slices.BinarySearchFunc(c, topic, func(s topicCursor, name string) int { return cmp.Compare(s.name, name) })
	if !ok {
		return nil
	}
	return &c[i]
}

// lastOffsets returns, for each partition, the offset of the last record that the stream has considered; -1 if there is
// none. The position of a sought partition says nothing about the records before it.
func (c cursor) lastOffsets() map[string]int64 {
	last := make(map[string]int64)
	for i := range c {
		for _, p := range c[i].positions {
			offset := p.next - 1
			if p.sought {
				offset = -1
			}
			last[fmt.Sprintf("%s-%d", c[i].name, p.partition)] = offset
		}
	}
	return last
}

// since returns the time of the sought positions, which is the same for all of them; false if none is sought.
func (c cursor) since() (ms int64, seeks bool) {
	for i := range c {
		if slices.ContainsFunc(c[i].positions, func(p position) bool { return p.sought }) {
			return c[i].since, true
		}
	}
	return 0, false
}

// indexOfLargestTopic returns the index of the topic with the most positions. The cursor must not be empty.
func (c cursor) indexOfLargestTopic() (largest int) {
	for i := range c {
		if len(c[i].positions) > len(c[largest].positions) {
			largest = i
		}
	}
	return largest
}
