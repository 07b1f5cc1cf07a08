package stream

import (
	"errors"

	"herald/consumer"
)

// checkpointAfter is how many offsets the position of a quiet stream may move before a heartbeat becomes a
// checkpoint. It bounds the replay for a returning client.
const checkpointAfter = 10_000

// gather frames what waits in the subscription: the records up to the first large one, a heartbeat or a checkpoint if it
// is due, and the checkpoint that says that replay has met live. If s.taken is not nil afterwards, some records are not
// framed yet: the caller sends the framed events and calls gather again. behind is true if the subscription has dropped
// live records. ended is the reason why the stream ends.
func (s *clientStream) gather() (behind bool, ended error) {
	if s.taken != nil {
		s.frameTaken(s.sub.endCause())
		return false, nil
	}
	heartbeat, check := s.sub.takeRequests()
	var now *cursor
	if heartbeat || check {
		// Read before the queue is taken: then all records before these positions are in the queue.
		now = s.env.hub.positions(s.sub.topics)
		defer cursors.Put(now)
	}
	current := check && s.catchUp.isCurrent(*now)
	s.taken, behind, ended = s.takeQueue()
	s.done = 0
	s.frameTaken(ended)
	if now == nil || s.writer.poll.isFull() { // records before these positions may have been dropped
		return behind, ended
	}
	if s.taken == nil && !behind && ended == nil {
		s.advance(*now)
	}
	switch {
	case current && s.taken == nil && s.catchUp.hasReached(*now):
		s.catchUp.meetLive()
	case check:
		s.catchUp.checkLiveLater()
	}
	// If records are left, a large event is sent next and serves as the heartbeat. If a poll is over, a checkpoint follows.
	over := s.writer.poll.isOver(s.hasMetLive())
	if heartbeat && s.taken == nil && ended == nil && !over {
		s.appendHeartbeat()
	}
	return behind, ended
}

// takeQueue takes the subscription's queue, which then no longer counts as queued.
func (s *clientStream) takeQueue() (q *queue, behind bool, ended error) {
	if q, behind, ended = s.sub.takeQueue(); q != nil {
		s.writer.env.metrics.queued.Add(-int64(q.size()))
	}
	return q, behind, ended
}

// appendHeartbeat appends a heartbeat, or a checkpoint if the position has moved far.
func (s *clientStream) appendHeartbeat() {
	if s.writer.moved >= checkpointAfter && !s.writer.sendsBeats() {
		s.writer.appendCheckpoint(checkpointData{})
	} else {
		s.writer.appendHeartbeat()
	}
}

// advance moves the cursor to positions that the hub has reached without a record for this user.
func (s *clientStream) advance(now cursor) {
	s.writer.moved += s.writer.cursor.advance(now, s.catchUp.waiting)
}

// frameTaken frames the taken records, up to the first large one. s.taken is nil afterwards if no record
// is left. If access was revoked, or a poll has as many records as it may, the other records are dropped.
func (s *clientStream) frameTaken(ended error) {
	q := s.taken
	if q == nil {
		return
	}
	done := int(s.done)
	if errors.Is(ended, ErrRevoked) || s.writer.poll.isFull() {
		done = len(q.items)
	}
	live, text := 0, 0
	if done > 0 {
		text = q.items[done-1].end
	}
	w := &s.writer
	for ; done < len(q.items) && w.large == nil && !w.poll.isFull(); done++ {
		it := &q.items[done]
		lines := q.text[text:it.end]
		if it.shared != nil {
			lines = *it.shared
		}
		text = it.end
		topic := w.cursor.topic(it.partition.Topic)
		if topic == nil {
			continue // the stream has not got this topic: it could not be read when the stream began
		}
		from := topic.nextOffset(it.partition.ID)
		if it.offset < from || s.catchUp.isWaiting(it.partition.Topic, it.partition.ID) {
			continue // was replayed, or will be
		}
		if s.skipForeignPartition(topic, it) {
			continue
		}
		topic.setNextOffset(it.partition.ID, it.offset+1)
		if !w.choice.hasType(it.eventType) {
			w.moved += it.offset + 1 - from
			continue
		}
		if it.shared == undecodable {
			w.appendUndecodable(*it.partition, it.offset)
			continue
		}
		b := w.appendRecordID(*it.partition, topic.topicID, it.offset+1, s.sub.topic(it.partition.Topic).Own)
		b.b = append(b.b, lines...)
		b.live = append(b.live, it.times)
		b.addTrace(q.takeTrace(done))
		w.attachLarge(it.large)
		live++
	}
	s.done = int32(done) //nolint:gosec // the queue's size in bytes is bounded
	w.env.metrics.live.Add(float64(live))
	if w.large == nil {
		q.free()
		s.taken = nil
	}
}

// skipForeignPartition reports whether a live record lies in a partition that the stream has not got. If
// the partition has become one of the user's homes, the stream catches up, to read the record from there.
func (s *clientStream) skipForeignPartition(topic *topicCursor, it *item) bool {
	if topic.hasPartition(it.partition.ID) {
		return false
	}
	homes := s.sub.topic(topic.name).Homes
	_, begin := homes.Find(s.sub.user)
	if _, home := begin[it.partition.ID]; home {
		s.sub.requestCatchUp()
	} else {
		homes.RecordMisplaced(s.sub.user, consumer.Position{Partition: *it.partition, Offset: it.offset})
	}
	return true
}
