package stream

import (
	"errors"

	"herald/consumer"
)

// This file is about records whose route has a format (package consumer/format). A record is decoded once, and only if a
// stream wants it. A record that cannot be decoded is a gap for the streams that would have got it, live and by replay,
// between the events of the records before and after it.

// The marks take the place of the lines that items share with other queues.
var (
	undecodable = new([]byte) // the record of the item cannot be decoded
	notReady    = new([]byte) // the record of the item cannot be decoded yet, so it must come by replay
)

// decodeIfWanted decodes a record that streams want. It does so before the locks are taken that the records of other users
// need: a value may take long.
func (h *Hub) decodeIfWanted(t *hubTopic, r *consumer.Record) {
	if h.isWanted(t, r) {
		_ = r.Decode() // encodeRecordLocked gets the error
	}
}

// isWanted reports whether there is a stream that the record is for.
func (h *Hub) isWanted(t *hubTopic, r *consumer.Record) bool {
	if r.Broadcast || r.Claim != "" {
		readers := h.readersOf(t, r)
		return readers != nil && readers.count() > 0
	}
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.users[string(r.User)] != nil
}

// markOf returns what stands for the lines of a record that cannot be decoded. err is the error of [consumer.Record.Decode].
func markOf(err error) *[]byte {
	if errors.Is(err, consumer.ErrNotReady) {
		return notReady
	}
	return undecodable
}

// typeUnknown is the type of a record's event while only decoding the record can find the type. Streams that want some types
// only get the gap of a record whose type nobody knows.
const typeUnknown = ""

// appendUndecodable appends the gap of a record that cannot be decoded. The cursor is after the record already.
func (w *eventWriter) appendUndecodable(p consumer.Partition, offset int64) {
	w.poll.countRecord() // the gap takes the place of a record, so that a poll is not longer than its client wants
	w.appendGap(gapData{p.Topic, &gapRange{p.ID, offset, offset + 1}, consumer.GapUndecodable})
}

// decodeReplayed decodes a record of a replay. It returns false if the record is not to be framed: because its type is not
// wanted, or because it cannot be decoded. Then more and err are what replayRecord returns.
func (c *catchUp) decodeReplayed(p consumer.Partition, r *consumer.Record) (frame, more bool, err error) {
	w := c.writer
	switch failed := r.Decode(); {
	case errors.Is(failed, consumer.ErrNotReady):
		return false, false, nil
	case failed == nil:
		return w.choice.hasType(c.env.hub.eventTypeOf(r)), true, nil
	}
	if w.pending() > c.env.replayPiece() {
		if more, err := w.trySend(); !more {
			return false, false, err
		}
		w.sub.publishCursor(w.cursor)
	}
	w.cursor.topic(p.Topic).setNextOffset(p.ID, r.Offset+1)
	w.appendUndecodable(p, r.Offset)
	return false, true, nil
}
