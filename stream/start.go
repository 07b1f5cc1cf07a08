package stream

import (
	"context"
	"errors"
	"slices"
	"time"

	"herald/consumer"
)

// start begins a new stream where the request says, and serves it. serveSlow replays the missed records first.
func (s *clientStream) start(r streamRequest) {
	if r.beats {
		s.writer.beat = string(r.appendOwnID(nil)) + heartbeatEvent
	}
	s.choose(newChoice(&r))
	err := s.waitFor(func(ctx context.Context) error {
		ctx, done := s.writer.poll.limitStart(ctx)
		defer done()
		if err := s.joinTopics(ctx, r.topics); err != nil {
			return err
		}
		return s.begin(ctx, r)
	})
	if err != nil {
		if _, ended := errors.AsType[EndError](err); !s.begun && (ended || errors.Is(err, errAnswered)) {
			b := s.writer.buffer()
			b.b = r.appendOwnID(b.b)
		}
		s.close(err)
		return
	}
	s.serveSlow()
}

// joinTopics waits until Kafka's topics of the user are being read, and registers the stream with the hub.
func (s *clientStream) joinTopics(ctx context.Context, broadcasts []string) error {
	var topics []consumer.UserTopic
	joined := false
	err := s.writer.withHeartbeats(ctx, func(ctx context.Context) (err error) {
		topics, err = s.env.kafka.Join(ctx, s.sub.user)
		joined = err == nil
		if err != nil && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	})
	if !joined { // joined with an error: the client has gone, and close takes back the Join
		return err
	}
	s.sub.topics = slices.DeleteFunc(topics, func(t consumer.UserTopic) bool { return !s.sub.hasTopic(&t, broadcasts) })
	s.env.hub.addSubscription(s.sub)
	s.joined = true
	return err
}

// begin sets the cursor to where the client wants to begin and writes the first checkpoint. The catch-up
// compares the cursor with the logs later.
func (s *clientStream) begin(ctx context.Context, r streamRequest) error {
	w := &s.writer
	w.cursor = s.env.hub.startCursor(s.sub.topics, s.sub.user)
	switch {
	case r.lastID != "":
		s.resume(r.lastID)
	case r.earliest || !r.since.IsZero():
		if err := s.retryUntilAnswered(ctx, func(ctx context.Context) error { return s.beginSince(ctx, r.since) }); err != nil {
			return err
		}
	case r.unseen:
		if err := s.retryUntilAnswered(ctx, s.beginUnseen); err != nil {
			return err
		}
	}
	first := checkpointData{Viewer: r.viewer}
	if r.beats {
		w.beat, first.Heartbeat = heartbeatEvent, w.env.heartbeat.Milliseconds()
	}
	w.appendCheckpoint(first)
	s.begun = true
	if s.env.longIDs != nil {
		s.env.longIDs.checkCursor(w.cursor)
	}
	return nil
}

// strangePartitions is how many partitions an id may name in addition to twice the number of known partitions.
// Another replica may know more partitions.
const strangePartitions = 100

// resume sets the cursor to what the id says. A topic that the id does not name starts now, and a gap reports
// it: the id may have been cut short, or come from a replica that has not got the topic.
func (s *clientStream) resume(lastID string) {
	saved, err := decodeID(lastID)
	w := &s.writer
	var unknown []gapData
	for i := range w.cursor {
		topic := &w.cursor[i]
		from, ok := saved[topic.nameTag]
		if !ok || len(from.positions) > 2*len(topic.positions)+strangePartitions { // each event would carry them
			unknown = append(unknown, gapData{Source: topic.name, Reason: consumer.GapUnknownID})
			continue
		}
		topic.positions, topic.since = from.positions, from.since
		for j := range topic.positions {
			topic.positions[j].fresh = true
		}
		if saved := (incarnation{incarnationTag: from.incarnation}); !saved.isSame(topic.incarnation) {
			if topic.incarnation == absent {
				saved.topicID = earlierID
			}
			topic.incarnation = saved
		}
		if homes := s.sub.topic(topic.name).Homes; homes != nil {
			topic.addHomes(s.sub.user, homes)
		}
	}
	if err != nil || len(unknown) > 0 && len(unknown) == len(w.cursor) {
		unknown = []gapData{{Reason: consumer.GapUnknownID}}
	}
	for _, g := range unknown { // once all positions are set: otherwise the gaps' ids would lack some
		w.appendGap(g)
	}
}

// beginSince sets the cursor to the first records that were written at the time or later. The zero time is the
// start of the log. If Kafka has no answer for a partition, the partition becomes sought, and
// [catchUp.applyLimits] asks again. Ids name the sought partitions and the time, so the client's next stream asks
// if this stream ends before there is an answer.
func (s *clientStream) beginSince(ctx context.Context, since time.Time) error {
	var partitions []consumer.Partition
	cursor := s.writer.cursor
	for i := range cursor {
		for _, p := range cursor[i].positions {
			partitions = append(partitions, consumer.Partition{Topic: cursor[i].name, ID: p.partition})
		}
	}
	first, err := s.env.kafka.Since(ctx, partitions, since)
	if err != nil && len(first) == 0 {
		return err
	}
	for i := range cursor {
		topic := &cursor[i]
		for _, p := range topic.positions {
			next, known := first[consumer.Partition{Topic: topic.name, ID: p.partition}]
			if known {
				topic.beginPartition(p.partition, min(next, p.next))
			} else {
				topic.seekPartition(p.partition, p.next, max(0, since.UnixMilli())) // the zero time is before 1970
			}
		}
	}
	return nil
}

// beginUnseen sets the cursor to where the user's own topics were last delivered. The other topics begin
// now.
func (s *clientStream) beginUnseen(ctx context.Context) error {
	delivered, err := s.env.kafka.DeliveredTo(ctx, s.sub.user)
	if err != nil {
		return err
	}
	for p, next := range delivered {
		if topic := s.writer.cursor.topic(p.Topic); topic != nil {
			topic.beginPartition(p.ID, min(next, topic.nextOffset(p.ID)))
		}
	}
	return nil
}

// retryUntilAnswered calls ask until it returns no error, with heartbeats. The error is ctx's cause, or the
// error of a heartbeat's write.
func (s *clientStream) retryUntilAnswered(ctx context.Context, ask func(context.Context) error) error {
	return s.writer.withHeartbeats(ctx, func(ctx context.Context) error {
		for ask(ctx) != nil && ctx.Err() == nil {
			select {
			case <-time.After(retryAfter):
			case <-ctx.Done():
			}
		}
		return context.Cause(ctx)
	})
}
