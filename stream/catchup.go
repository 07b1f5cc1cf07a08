package stream

import (
	"context"
	"errors"
	"slices"
	"time"

	"herald/consumer"
)

// catchUp replays from the cursor to where live delivery takes over. Partitions that cannot get there
// for now are left waiting.
func (f *clientStream) catchUp(ctx context.Context) error {
	f.waiting = make(map[consumer.Partition]struct{})
	f.ends = nil
	f.sub.acceptLiveRecords()
	seam := f.hub.seam(f.sub.topics)
	asking, alive := f.keepAlive(ctx)
	for i := range seam {
		f.adopt(asking, &f.at[i], &seam[i])
		f.rehome(&f.at[i], &seam[i])
		f.check(asking, &f.at[i], &seam[i])
	}
	if err := alive(); err != nil {
		return err
	}
	err := f.flush()
	for more := true; more && err == nil; {
		if err = f.limit(ctx, seam); err == nil { // each time: a log that is met shorter begins anew
			more, err = f.approach(ctx, seam)
		}
	}
	if f.again != nil {
		f.again.Stop() // or each catchUp would leave one behind that brings another
	}
	if len(f.waiting) > 0 {
		f.again = time.AfterFunc(retryAfter, f.sub.requestCatchUp)
	}
	return err
}

// adopt compares the cursor's topic with the one that is read now. If that is another incarnation,
// all that the cursor had before it is lost. That must be certain: the client may come from a
// replica that knows a newer incarnation than this one.
func (f *clientStream) adopt(ctx context.Context, at, now *topicCursor) {
	switch {
	case at.incarnation.tag == now.incarnation.tag:
		at.incarnation = now.incarnation
		return
	case now.incarnation == absent: // it may come back as the one it was
		return
	case f.kafka.Confirm(ctx, now.name, now.topicID) != nil:
		for _, p := range now.positions {
			f.postpone(now.name, p.partition)
		}
		return
	}
	appeared := at.incarnation.tag == absent.tag
	*at = newTopicCursor(at.name, now.incarnation)
	if !appeared {
		f.gap(gapData{Source: at.name, Reason: consumer.GapRecreated})
	}
}

func (f *clientStream) postpone(topic string, partition int32) {
	f.waiting[consumer.Partition{Topic: topic, ID: partition}] = struct{}{}
}

func (f *clientStream) waits(topic string, partition int32) bool {
	_, ok := f.waiting[consumer.Partition{Topic: topic, ID: partition}]
	return ok
}

// check deals with positions beyond what was read here: another replica may be ahead of this one,
// or the log does not hold that offset, and what is retained comes from its start.
func (f *clientStream) check(ctx context.Context, at, now *topicCursor) {
	for _, p := range now.positions {
		if at.nextOffset(p.partition) <= p.next || f.waits(at.name, p.partition) {
			continue
		}
		partition := consumer.Partition{Topic: at.name, ID: p.partition}
		start, end, err := f.kafka.Range(ctx, partition, at.topicID)
		if err != nil {
			f.postpone(at.name, p.partition)
			continue
		}
		f.lose(at, partition, &consumer.OutOfRangeError{Start: start, End: end})
	}
}

// approach replays pieces of the partitions that are before the seam, all at once: each pass over a
// log then serves all that there is to serve. It returns false when all of them are there or wait. It
// begins with another one each time: a client that is cut again and again must get on in all of them.
func (f *clientStream) approach(ctx context.Context, seam cursor) (more bool, err error) {
	behind := f.behind(seam)
	if len(behind) == 0 {
		return false, nil
	}
	first := f.turn % len(behind)
	f.turn++
	behind = slices.Concat(behind[first:], behind[:first])
	begun := make([]int64, len(behind))
	for i := range behind {
		begun[i] = behind[i].Next
	}
	reading, alive := f.keepAlive(ctx)
	var failed error
	f.kafka.Replay(reading, f.sub.user, behind, func(at *consumer.Range, r *consumer.Record) bool {
		var more bool
		more, failed = f.replay(at.Partition, r)
		return more
	})
	if err := alive(); err != nil {
		return false, err
	}
	if failed == nil {
		failed = f.flush() // before anything is written behind it
	}
	if failed != nil {
		return false, failed
	}
	moved := false
	for i := range behind {
		moved = f.replayed(&behind[i], begun[i]) || moved
	}
	if !moved {
		for i := range behind {
			f.postpone(behind[i].Topic, behind[i].ID)
		}
	}
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	return true, f.flush()
}

// behind returns what lies between the cursor and the seam.
func (f *clientStream) behind(seam cursor) (behind []consumer.Range) {
	for i := range seam {
		at := &f.at[i]
		for _, p := range seam[i].positions {
			if next := at.nextOffset(p.partition); next < p.next && !f.waits(at.name, p.partition) {
				behind = append(behind, consumer.Range{Partition: consumer.Partition{Topic: at.name, ID: p.partition}, TopicID: at.topicID, Next: next, To: p.next})
			}
		}
	}
	return behind
}

// replay takes in a record that is read again. It returns false if the client has to take what there
// is first.
func (f *clientStream) replay(p consumer.Partition, r *consumer.Record) (more bool, err error) {
	eventType := eventTypeOf(r, f.hub.typeHeader)
	if r.Value == nil || !f.wants(eventType) {
		return true, nil
	}
	if n := f.pending(); n > 0 && n+len(r.Value) > replayPiece {
		if more, err := f.pass(); !more {
			return false, err
		}
	}
	at := f.at.topic(p.Topic)
	at.setNextOffset(p.ID, r.Offset+1)
	b := f.id()
	f.wrote(p, at.topicID, r.Offset+1)
	f.hub.metrics.replayed.Inc()
	if f.large = f.hub.larges.shareEvent(eventType, r.Value); f.large != nil {
		return f.pass()
	}
	b.b = appendRecord(b.b, eventType, r.Value)
	return true, nil
}

// pass writes the buffer from within a replay, if the client takes all of it at once: so whoever reads
// as fast as the log is read goes with one pass over it.
func (f *clientStream) pass() (all bool, err error) {
	if !f.writing.TryLock() {
		return false, nil // a heartbeat waits for the client
	}
	defer f.writing.Unlock()
	err = f.send()
	return err == nil && len(f.rest) == 0, err
}

// replayed takes in how far a range came from where it began. It returns false if that is nowhere.
func (f *clientStream) replayed(r *consumer.Range, begun int64) bool {
	at := f.at.topic(r.Topic)
	if shown := at.nextOffset(r.ID); r.Next > shown { // what lies between is not for this user
		f.moved += r.Next - shown
		at.setNextOffset(r.ID, r.Next)
	}
	if lost, ok := errors.AsType[*consumer.OutOfRangeError](r.Err); ok {
		f.lose(at, r.Partition, lost)
	}
	if bad, ok := errors.AsType[*consumer.UnreadableError](r.Err); ok {
		at.setNextOffset(r.ID, bad.Next)
		f.gap(gapData{r.Topic, &gapRange{r.ID, bad.Offset, bad.Next}, consumer.GapUnreadable})
	}
	moved := at.nextOffset(r.ID) != begun
	if r.Err != nil && !moved {
		f.postpone(r.Topic, r.ID)
	}
	return moved
}

// keepAlive writes heartbeats while the stream waits for Kafka, until the function that it returns is
// called, which nothing else may be written before. If the client is gone, the context ends and the
// function says why.
func (f *clientStream) keepAlive(ctx context.Context) (context.Context, func() error) {
	ctx, cancel := context.WithCancelCause(ctx)
	var timer *time.Timer
	var failed error
	f.writing.Lock()
	timer = time.AfterFunc(f.heartbeat, func() {
		f.writing.Lock()
		defer f.writing.Unlock()
		if ctx.Err() != nil || len(f.rest) > 0 { // an event has been written in part
			return
		}
		if failed = write(f.out, heartbeat); failed != nil {
			cancel(failed)
			return
		}
		timer.Reset(f.heartbeat)
	})
	f.writing.Unlock()
	return ctx, func() error {
		timer.Stop()
		f.writing.Lock() // a heartbeat is being written
		defer f.writing.Unlock()
		cancel(nil)
		return failed
	}
}

// lose goes on with what the log retains. It does nothing if the log holds the cursor: then it ends
// before the seam, which is out of date.
func (f *clientStream) lose(at *topicCursor, p consumer.Partition, lost *consumer.OutOfRangeError) {
	from := at.nextOffset(p.ID)
	reason := consumer.GapRetention
	switch {
	case from > lost.End:
		reason = consumer.GapUnknownID
		at.beginPartition(p.ID, lost.Start)
		if f.ends == nil {
			f.ends = make(map[consumer.Partition]int64)
		}
		f.ends[p] = lost.End
	case from >= lost.Start:
		return
	default:
		at.setNextOffset(p.ID, lost.Start)
	}
	f.gap(gapData{p.Topic, &gapRange{p.ID, from, lost.Start}, reason})
}
