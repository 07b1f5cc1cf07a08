package stream

import (
	"slices"

	"herald/consumer"
)

// In a topic whose route names its partitioner, a stream has only some partitions: the user's homes
// ([consumer.Homes]), and the partitions that the id names from which it resumed. The cursor has a position for
// each of these partitions, even at offset 0, and ids name all of them. A replica that started after partitions
// were added knows an old home only from an id.

// atHomes returns a copy of the cursor that has only the user's homes, for a stream that begins.
func (s *topicCursor) atHomes(user string, homes *consumer.Homes) topicCursor {
	at := *s
	at.homed, at.positions = true, nil
	id, begin := homes.Find(user)
	if id != s.topicID {
		return at // the cursor and the homes are of different incarnations; a catch-up follows
	}
	for p, from := range begin {
		if i, ok := s.findPosition(p); ok {
			from = s.positions[i].next
		}
		at.setNextOffset(p, from) // a home that is not read yet was added just now
	}
	return at
}

// addHomes adds the user's homes that the cursor lacks, each at the offset at which a stream begins that has
// not read it. It reports whether it added any.
func (s *topicCursor) addHomes(user string, homes *consumer.Homes) (added bool) {
	s.homed = true
	id, begin := homes.Find(user)
	if id != s.topicID || id == absent.topicID {
		return false
	}
	for p, from := range begin {
		if _, ok := s.findPosition(p); !ok {
			s.beginPartition(p, from)
			added = true
		}
	}
	return added
}

// hasPartition reports whether the stream has the partition.
func (s *topicCursor) hasPartition(partition int32) bool {
	if !s.homed {
		return true
	}
	_, ok := s.findPosition(partition)
	return ok
}

// updateHomes adds the user's new homes to the cursor's topic, and removes from the seam the partitions that
// the stream does not have.
func (c *catchUp) updateHomes(topic, seam *topicCursor) {
	homes := c.writer.sub.topic(topic.name).Homes
	if homes == nil {
		return
	}
	if topic.addHomes(c.writer.sub.user, homes) {
		c.writer.appendCheckpoint(checkpointData{}) // the client's next replica may not know the new homes
	}
	seam.positions = slices.DeleteFunc(seam.positions, func(p position) bool { return !topic.hasPartition(p.partition) })
}
