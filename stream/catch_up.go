package stream

import (
	"context"
	"errors"
	"slices"
	"time"

	"herald/consumer"
)

// retryAfter is how long a stream waits before it asks Kafka again about a partition.
const retryAfter = time.Second

// schemaRetryAfter is how long a stream waits at first for the schema of a record. Each further try for the same record
// waits twice as long, up to retryAfter: a replay of old records may need many schemas, and most registries answer within
// milliseconds.
const schemaRetryAfter = 30 * time.Millisecond

// A stream collects a piece of its replay before it sends the piece. Thousands of streams may share one pass over
// a log, so the pieces of all streams take at most replayBytes together, but each stream may collect at least
// minReplayPiece. With the id and the frame of one more event, minReplayPiece fits into a new buffer.
const (
	replayBytes    = 4 << 20
	minReplayPiece = newBufferSize - 512
	maxReplayPiece = 32 << 10
)

// checkpointAfterReplay is how many offsets without a record for the user a catch-up may pass over until a checkpoint
// follows it. The id of the last event lacks these offsets. Without the checkpoint, a client that is cut again soon
// would return with old positions, which the tail may not hold any more.
const checkpointAfterReplay = 1000

// catchUp brings a stream from its cursor to the seam: the positions at which live records take over, see
// [Hub.seam]. Partitions for which Kafka has no answer wait, and the others continue without them.
type catchUp struct {
	env    *catchUpEnv
	writer *eventWriter

	waiting map[consumer.Partition]struct{} // partitions that do not reach the seam before the retry
	retry   *time.Timer                     // requests a catch-up for the waiting partitions
	tally   *catchUpTally                   // of the catch-up under way; nil: none is
	turn    uint32                          // selects which partition is replayed first
	metLive bool                            // the client knows that replay has met live
	checks  uint8                           // how often the stream has checked whether replay has met live

	lacksSchema bool  // a partition waits for a schema
	schemaTries uint8 // how many catch-ups in a row have found the same schemas missing
}

// run catches up: it compares the cursor with the logs and replays from the cursor to the seam.
func (c *catchUp) run(ctx context.Context) error {
	c.waiting, c.lacksSchema = nil, false // most streams never need waiting
	c.beginTally()
	c.writer.sub.acceptLiveRecords()
	seam := c.env.hub.seam(c.writer.sub.topics)
	if err := c.compareWith(ctx, seam); err != nil {
		return err
	}
	current := !c.metLive && c.isCurrent(seam)
	var err error
	for more := true; more && err == nil && !c.writer.poll.isFull(); {
		// Each replay needs the limits: it may find a log shorter than expected, which is then read from its start.
		if err = c.applyLimits(ctx, seam); err == nil {
			more, err = c.replayOnce(ctx, seam)
			c.writer.sub.publishCursor(c.writer.cursor)
		}
	}
	switch {
	case err != nil:
	case current && c.hasReached(seam):
		c.meetLive()
	case c.writer.moved >= checkpointAfterReplay:
		c.writer.appendCheckpoint(checkpointData{})
	}
	c.stopRetry() // otherwise each catch-up would leave a timer that requests another one
	if len(c.waiting) > 0 {
		c.retry = time.AfterFunc(c.nextRetry(), c.writer.sub.requestCatchUp)
	} else {
		c.checkLiveLater()
		c.endTally(err == nil && !c.writer.poll.isFull())
	}
	return err
}

// compareWith compares the cursor with the seam. It asks Kafka where the cursor has another incarnation of a topic,
// or is ahead of this replica.
func (c *catchUp) compareWith(ctx context.Context, seam cursor) error {
	compare := func(ctx context.Context) error {
		for i := range seam {
			topic := &c.writer.cursor[i]
			c.adoptIncarnation(ctx, topic, &seam[i])
			c.updateHomes(topic, &seam[i])
			c.checkPositions(ctx, topic, &seam[i])
		}
		return nil
	}
	if c.differsFrom(seam) {
		return c.writer.withHeartbeats(ctx, compare)
	}
	return compare(ctx)
}

// differsFrom reports whether the cursor has another incarnation of a topic than the seam, or is ahead of it.
func (c *catchUp) differsFrom(seam cursor) bool {
	for i := range seam {
		topic := &c.writer.cursor[i]
		if !topic.isSame(seam[i].incarnation) {
			return true
		}
		for _, p := range seam[i].positions {
			if topic.nextOffset(p.partition) > p.next {
				return true
			}
		}
	}
	return false
}

// nextRetry returns how long the stream waits until the next catch-up for the waiting partitions.
func (c *catchUp) nextRetry() time.Duration {
	if !c.lacksSchema {
		return retryAfter
	}
	after := min(schemaRetryAfter<<c.schemaTries, retryAfter)
	c.schemaTries = min(c.schemaTries+1, 8)
	return after
}

func (c *catchUp) stopRetry() {
	if c.retry != nil {
		c.retry.Stop()
	}
}

// adoptIncarnation compares the cursor's topic with the topic that is read now. If that is another
// incarnation, all positions of the cursor are lost. Kafka must confirm the incarnation: the client may
// come from a replica that knows a newer one than this replica.
func (c *catchUp) adoptIncarnation(ctx context.Context, topic, seam *topicCursor) {
	switch {
	case topic.isSame(seam.incarnation):
		topic.incarnation = seam.incarnation
		return
	case seam.incarnation == absent: // the same incarnation may come back
		return
	case c.env.kafka.Confirm(ctx, seam.name, seam.topicID) != nil:
		for _, p := range seam.positions {
			c.postpone(seam.name, p.partition)
		}
		return
	}
	appeared := topic.incarnationTag == absent.incarnationTag
	*topic = newTopicCursor(topic.name, seam.incarnation)
	if !appeared {
		c.writer.appendGap(gapData{Source: topic.name, Reason: consumer.GapRecreated})
	}
}

// postpone leaves a partition waiting until the retry.
func (c *catchUp) postpone(topic string, partition int32) {
	if c.waiting == nil {
		c.waiting = make(map[consumer.Partition]struct{})
	}
	c.waiting[consumer.Partition{Topic: topic, ID: partition}] = struct{}{}
}

func (c *catchUp) isWaiting(topic string, partition int32) bool {
	_, ok := c.waiting[consumer.Partition{Topic: topic, ID: partition}]
	return ok
}

// checkPositions asks Kafka about positions that this replica has not reached. Either another replica has
// read further, or the log does not hold the offset. In the second case the stream starts at the log's start.
func (c *catchUp) checkPositions(ctx context.Context, topic, seam *topicCursor) {
	for _, p := range seam.positions {
		if topic.nextOffset(p.partition) <= p.next || c.isWaiting(topic.name, p.partition) {
			continue
		}
		partition := consumer.Partition{Topic: topic.name, ID: p.partition}
		start, end, err := c.env.kafka.Range(ctx, partition, topic.topicID)
		if err != nil {
			c.postpone(topic.name, p.partition)
			continue
		}
		c.moveIntoLog(topic, partition, &consumer.OutOfRangeError{Start: start, End: end})
	}
}

// replayOnce replays the records between the cursor and the seam, of all partitions at once. more is false when
// each partition has reached the seam or waits. Each call begins with another partition, so that a client whose
// connection is cut again and again advances in all of them.
func (c *catchUp) replayOnce(ctx context.Context, seam cursor) (more bool, err error) {
	behind := c.rangesToSeam(seam)
	if len(behind) == 0 {
		return false, nil
	}
	c.tally.missed = true
	first := int(c.turn) % len(behind)
	c.turn++
	behind = slices.Concat(behind[first:], behind[:first])
	begun := make([]int64, len(behind))
	for i := range behind {
		begun[i] = behind[i].Next
	}
	c.env.replaying.Add(1)
	defer c.env.replaying.Add(-1)
	var failed error // of a write within the replay
	err = c.writer.withHeartbeats(ctx, func(ctx context.Context) error {
		c.env.kafka.Replay(ctx, c.writer.sub.user, behind, func(at *consumer.Range, r *consumer.Record) bool {
			var more bool
			more, failed = c.replayRecord(at.Partition, r)
			return more
		})
		return nil
	})
	if err != nil {
		return false, err
	}
	if failed == nil && c.writer.state() != writerFilling { // nothing may be appended after a part of an event
		failed = c.writer.flush()
	}
	if failed != nil {
		return false, failed
	}
	moved := false
	for i := range behind {
		moved = c.finishRange(&behind[i], begun[i]) || moved
	}
	if !moved {
		for i := range behind {
			c.postpone(behind[i].Topic, behind[i].ID)
		}
	}
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	return true, nil
}

// rangesToSeam returns the ranges between the cursor and the seam.
func (c *catchUp) rangesToSeam(seam cursor) (ranges []consumer.Range) {
	for i := range seam {
		topic := &c.writer.cursor[i]
		var values []string
		if claim := c.writer.sub.topic(topic.name).Claim; claim != "" {
			values = c.writer.sub.members.valuesOf(claim)
		}
		for _, p := range seam[i].positions {
			if next := topic.nextOffset(p.partition); next < p.next && !c.isWaiting(topic.name, p.partition) {
				ranges = append(ranges, consumer.Range{Partition: consumer.Partition{Topic: topic.name, ID: p.partition}, TopicID: topic.topicID, Next: next, To: p.next, Values: values})
			}
		}
	}
	return ranges
}

// replayRecord frames one record of a replay. more is false if the replay must stop, because the client did not
// take all bytes sent, or a poll has as many records as it may.
func (c *catchUp) replayRecord(p consumer.Partition, r *consumer.Record) (more bool, err error) {
	w, hub := c.writer, c.env.hub
	if w.poll.isFull() {
		return false, nil
	}
	eventType, shape := hub.eventTypeOf(r), c.writer.sub.shape
	if !w.sub.wantsRecord(r) || !w.choice.hasType(eventType) {
		return true, nil
	}
	if r.HasFormat() {
		if frame, more, err := c.decodeReplayed(p, r); !frame {
			return more, err
		}
		eventType = hub.eventTypeOf(r)
	}
	if n := w.pending(); n > 0 && n+len(r.Value)+hub.fieldsSize(shape, r) > c.env.replayPiece() {
		if more, err := w.trySend(); !more {
			return false, err
		}
		w.sub.publishCursor(w.cursor)
	}
	topic := w.cursor.topic(p.Topic)
	topic.setNextOffset(p.ID, r.Offset+1)
	b := w.appendRecordID(p, topic.topicID, r.Offset+1, c.writer.sub.topic(p.Topic).Own)
	hub.metrics.replayed.Inc()
	c.tally.records++
	var large *large
	if b.b, large = hub.appendRecord(b.b, shape, p, eventType, r); large != nil {
		w.attachLarge(large)
		return w.trySend()
	}
	return true, nil
}

// finishRange moves the cursor to the offset at which the replay of a range ended, and appends a gap if records are
// lost. begun is the offset at which the replay began. It returns false if the cursor has not moved.
func (c *catchUp) finishRange(r *consumer.Range, begun int64) bool {
	topic := c.writer.cursor.topic(r.Topic)
	if framed := topic.nextOffset(r.ID); r.Next > framed { // the records between are not for this user
		c.writer.moved += r.Next - framed
		topic.setNextOffset(r.ID, r.Next)
	}
	if lost, ok := errors.AsType[*consumer.OutOfRangeError](r.Err); ok {
		c.moveIntoLog(topic, r.Partition, lost)
	}
	if bad, ok := errors.AsType[*consumer.UnreadableError](r.Err); ok {
		topic.setNextOffset(r.ID, bad.Next)
		c.writer.appendGap(gapData{r.Topic, &gapRange{r.ID, bad.Offset, bad.Next}, consumer.GapUnreadable})
	}
	moved := topic.nextOffset(r.ID) != begun
	if moved { // then another schema is missing, if one is
		c.schemaTries = 0
	}
	c.lacksSchema = c.lacksSchema || errors.Is(r.Err, consumer.ErrNotReady)
	if r.Err != nil && !moved {
		c.postpone(r.Topic, r.ID)
	}
	return moved
}

// moveIntoLog moves a position that lies outside the log to the log's start, and reports the loss. It does
// nothing if the log holds the position: then the log ends before the seam, which is out of date.
func (c *catchUp) moveIntoLog(topic *topicCursor, p consumer.Partition, lost *consumer.OutOfRangeError) {
	from := topic.nextOffset(p.ID)
	reason := consumer.GapRetention
	switch {
	case from > lost.End:
		reason = consumer.GapUnknownID
		topic.beginPartition(p.ID, lost.Start)
		if c.tally.ends == nil {
			c.tally.ends = make(map[consumer.Partition]int64)
		}
		c.tally.ends[p] = lost.End
	case from >= lost.Start:
		return
	default:
		topic.setNextOffset(p.ID, lost.Start)
	}
	c.writer.appendGap(gapData{p.Topic, &gapRange{p.ID, from, lost.Start}, reason})
}
