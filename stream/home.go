package stream

import (
	"slices"

	"herald/consumer"
)

// In a topic whose route names its partitioner a stream has some partitions only: the user's homes
// ([consumer.Homes]), and those that the id it resumes from names. The cursor's source has a position
// for each of them, at the start of the partition too, and ids name all of them: a replica that starts
// after partitions were added knows an old home from the id alone.

// atHomes returns the source with positions in user's homes only, to begin there.
func (s *topicCursor) atHomes(user string, homes *consumer.Homes) topicCursor {
	at := *s
	at.homed, at.positions = true, nil
	id, begin := homes.Of(user)
	if id != s.topicID {
		return at // the topic is about to be met again
	}
	for p, from := range begin {
		if i, ok := s.findPosition(p); ok {
			from = s.positions[i].next
		}
		at.setNextOffset(p, from) // one that is not read yet was added just now
	}
	return at
}

// addHomes adds user's homes that the source lacks, where whoever has not read them begins. It says
// whether there were any.
func (s *topicCursor) addHomes(user string, homes *consumer.Homes) (added bool) {
	s.homed = true
	id, begin := homes.Of(user)
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

// hasPartition says whether the partition is one of the stream's.
func (s *topicCursor) hasPartition(partition int32) bool {
	if !s.homed {
		return true
	}
	_, ok := s.findPosition(partition)
	return ok
}

// updateHomes adds the user's new homes to the cursor's topic, and removes from the seam the partitions that
// the stream has not got.
func (c *catchUp) updateHomes(topic, seam *topicCursor) {
	homes := c.sub.topic(topic.name).Homes
	if homes == nil {
		return
	}
	if topic.addHomes(c.sub.user, homes) {
		c.writer.appendCheckpoint() // the client's next replica may not know the new homes
	}
	seam.positions = slices.DeleteFunc(seam.positions, func(p position) bool { return !topic.hasPartition(p.partition) })
}
