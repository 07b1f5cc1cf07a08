package stream

import (
	"context"
	"errors"
	"sync"
	"time"

	"herald/consumer"
)

// Log is what streams need of Kafka; [consumer.Consumer] is one.
type Log interface {
	Join(ctx context.Context, user string) (sources []consumer.Source, err error)
	Leave(user string)
	Replay(ctx context.Context, p consumer.Partition, topicID [16]byte, user string, from, to int64, fn func(*consumer.Record) bool) (int64, error)
	Delivered(p consumer.Partition, next int64)
	DeliveredTo(ctx context.Context, user string) (map[consumer.Partition]int64, error)
	Since(ctx context.Context, topics []string, t time.Time) (map[consumer.Partition]int64, error)
	Confirm(ctx context.Context, topic string, topicID [16]byte) error
	Range(ctx context.Context, p consumer.Partition, topicID [16]byte) (start, end int64, err error)
}

const (
	checkpointAfter = 10_000      // offsets by which a quiet stream's position may move before it is told
	keepBuffer      = 64 << 10    // bytes of a stream's buffer that are kept
	retryAfter      = time.Second // for partitions that wait
)

// heartbeat is a comment: it tells proxies and clients that the connection is in use.
var heartbeat = []byte(":\n")

// feed is one open stream: it brings the client from its cursor to now and keeps it there. It is
// used by one goroutine.
type feed struct {
	hub       *Hub
	log       Log
	sub       *subscription
	out       *writer
	heartbeat time.Duration
	request   request
	limits    Limits

	at    cursor // what was written, or considered and not for this user
	moved int64  // offsets by which at has moved since the client was told an id
	buf   []byte

	written map[consumer.Partition]int64 // positions behind the events in buf

	// waiting are partitions for which Kafka had no answer: they are behind, and tried again later,
	// while the others go on.
	waiting map[consumer.Partition]struct{}
	again   *time.Timer // when they are tried again
	turn    int         // which of the partitions that are behind is replayed first
}

// gap tells of a loss, with the cursor behind it as its id.
func (f *feed) gap(g gapData) {
	f.hub.metrics.gaps.WithLabelValues(string(g.Reason)).Inc()
	f.own(typeGap, g)
}

func (f *feed) checkpoint() { f.own(typeCheckpoint, struct{}{}) }

func (f *feed) own(eventType string, data any) {
	f.id()
	f.buf = appendOwn(f.buf, eventType, data)
}

// id writes the cursor as the id of the event that follows.
func (f *feed) id() {
	f.buf = append(f.buf, "id: "...)
	f.buf = append(appendID(f.buf, f.at), '\n')
	f.moved = 0
}

func (f *feed) flush() error {
	if len(f.buf) == 0 {
		return nil
	}
	err := f.out.write(f.buf)
	if err == nil {
		for p, next := range f.written {
			f.log.Delivered(p, next)
		}
	}
	clear(f.written)
	f.buf = f.buf[:0]
	if cap(f.buf) > keepBuffer {
		f.buf = nil
	}
	return err
}

// run delivers until ctx ends or the client is gone. The error is ctx's cause or the write's.
func (f *feed) run(ctx context.Context) error {
	ticker := time.NewTicker(f.heartbeat)
	defer ticker.Stop()
	for {
		if err := f.deliver(ctx); err != nil {
			return err
		}
		select {
		case <-f.sub.wake:
		case <-ticker.C:
			f.beat()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// deliver writes what waits, from the queue and, if the stream is behind, from the log.
func (f *feed) deliver(ctx context.Context) error {
	for {
		queue, behind := f.sub.take()
		f.send(queue)
		if err := f.flush(); err != nil {
			return err
		}
		if !behind {
			return nil
		}
		if err := f.catchUp(ctx); err != nil {
			return err
		}
	}
}

// beat keeps the connection alive; now and then with the position a quiet stream has come to.
func (f *feed) beat() {
	now := f.hub.positions(f.sub.topics) // before the queue is taken: all records before them are in it
	queue, behind := f.sub.take()
	f.send(queue)
	if !behind {
		f.advance(now)
	}
	if f.moved >= checkpointAfter {
		f.checkpoint()
		return
	}
	f.buf = append(f.buf, heartbeat...)
}

// advance takes positions into the cursor that were read without a record for this user.
func (f *feed) advance(now cursor) {
	for i := range now {
		at := &f.at[i]
		if at.incarnation != now[i].incarnation {
			continue
		}
		for _, p := range now[i].positions {
			if from := at.next(p.partition); from < p.next && at.takes(p.partition) && !f.waits(at.topic, p.partition) {
				at.set(p.partition, p.next)
				f.moved += p.next - from
			}
		}
	}
}

func (f *feed) wrote(p consumer.Partition, next int64) {
	if f.written == nil {
		f.written = make(map[consumer.Partition]int64)
	}
	f.written[p] = next
}

// send writes queued items into the buffer, each with the cursor behind it as its id.
func (f *feed) send(queue []item) {
	for i := range queue {
		it := &queue[i]
		at := f.at.source(it.partition.Topic)
		from := at.next(it.partition.ID)
		if it.offset < from || f.waits(it.partition.Topic, it.partition.ID) {
			continue // was replayed, or will be
		}
		if f.stray(at, it) {
			continue
		}
		at.set(it.partition.ID, it.offset+1)
		if !f.request.wants(it.eventType) {
			f.moved += it.offset + 1 - from
			continue
		}
		f.id()
		f.buf = append(f.buf, it.body...)
		f.wrote(it.partition, it.offset+1)
		f.hub.metrics.live.Inc()
	}
}

// catchUp replays from the cursor to where live delivery takes over. Partitions that cannot get there
// for now are left waiting.
func (f *feed) catchUp(ctx context.Context) error {
	f.waiting = make(map[consumer.Partition]struct{})
	f.sub.rejoin()
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
		more, err = f.approach(ctx, seam)
	}
	if f.again != nil {
		f.again.Stop() // or each catchUp would leave one behind that brings another
	}
	if len(f.waiting) > 0 {
		f.again = time.AfterFunc(retryAfter, f.sub.unsettle)
	}
	return err
}

// adopt compares the cursor's topic with the one that is read now. If that is another incarnation,
// all that the cursor had before it is lost. That must be certain: the client may come from a
// replica that knows a newer incarnation than this one.
func (f *feed) adopt(ctx context.Context, at, now *source) {
	switch {
	case at.incarnation.tag == now.incarnation.tag:
		at.incarnation = now.incarnation
		return
	case now.incarnation == absent: // it may come back as the one it was
		return
	case f.log.Confirm(ctx, now.topic, now.id) != nil:
		for _, p := range now.positions {
			f.wait(now.topic, p.partition)
		}
		return
	}
	appeared := at.incarnation.tag == absent.tag
	*at = newSource(at.topic, now.incarnation)
	if !appeared {
		f.gap(gapData{Source: at.topic, Reason: consumer.GapRecreated})
	}
}

func (f *feed) wait(topic string, partition int32) {
	f.waiting[consumer.Partition{Topic: topic, ID: partition}] = struct{}{}
}

func (f *feed) waits(topic string, partition int32) bool {
	_, ok := f.waiting[consumer.Partition{Topic: topic, ID: partition}]
	return ok
}

// check deals with positions beyond what was read here: another replica may be ahead of this one,
// or the log does not hold that offset, and what is retained comes from its start.
func (f *feed) check(ctx context.Context, at, now *source) {
	for _, p := range now.positions {
		if at.next(p.partition) <= p.next || f.waits(at.topic, p.partition) {
			continue
		}
		partition := consumer.Partition{Topic: at.topic, ID: p.partition}
		start, end, err := f.log.Range(ctx, partition, at.id)
		if err != nil {
			f.wait(at.topic, p.partition)
			continue
		}
		f.lose(at, partition, &consumer.OutOfRangeError{Start: start, End: end})
	}
}

// approach replays a piece of each partition that is before the seam. It returns false when all of
// them are there or wait. It begins with another one each time: a client that is cut again and again
// must get on in all of them.
func (f *feed) approach(ctx context.Context, seam cursor) (more bool, err error) {
	type place struct {
		at *source
		to position
	}
	var behind []place
	for i := range seam {
		for _, p := range seam[i].positions {
			if at := &f.at[i]; at.next(p.partition) < p.next && !f.waits(at.topic, p.partition) {
				behind = append(behind, place{at, p})
			}
		}
	}
	for i := range behind {
		p := behind[(i+f.turn)%len(behind)]
		from := p.at.next(p.to.partition)
		if err := f.replay(ctx, p.at, p.to); err != nil {
			return false, err
		}
		if p.at.next(p.to.partition) == from {
			f.wait(p.at.topic, p.to.partition)
		}
	}
	f.turn++
	return len(behind) > 0, nil
}

// replay writes one buffer's worth of the partition's records before the offset to.next.
func (f *feed) replay(ctx context.Context, at *source, to position) error {
	p := consumer.Partition{Topic: at.topic, ID: to.partition}
	reading, alive := f.keepAlive(ctx)
	next, err := f.log.Replay(reading, p, at.id, f.sub.user, at.next(p.ID), to.next, func(r *consumer.Record) bool {
		eventType := eventTypeOf(r, f.hub.typeHeader)
		if r.Value == nil || !f.request.wants(eventType) {
			return true
		}
		if len(f.buf) > 0 && len(f.buf)+len(r.Value) > f.sub.maxBytes {
			return false
		}
		at.set(p.ID, r.Offset+1)
		f.id()
		f.buf = appendRecord(f.buf, eventType, r.Value)
		f.wrote(p, r.Offset+1)
		f.hub.metrics.replayed.Inc()
		return true
	})
	if err := alive(); err != nil {
		return err
	}
	f.moved += max(0, next-at.next(p.ID))
	at.set(p.ID, max(at.next(p.ID), next))
	if lost, ok := errors.AsType[*consumer.OutOfRangeError](err); ok {
		f.lose(at, p, lost)
	}
	if bad, ok := errors.AsType[*consumer.UnreadableError](err); ok {
		at.set(p.ID, bad.Next)
		f.gap(gapData{p.Topic, &gapRange{p.ID, bad.Offset, bad.Next}, consumer.GapUnreadable})
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return f.flush()
}

// keepAlive writes heartbeats while the stream waits for Kafka, until the function that it returns is
// called, which nothing else may be written before. If the client is gone, the context ends and the
// function says why.
func (f *feed) keepAlive(ctx context.Context) (context.Context, func() error) {
	ctx, cancel := context.WithCancelCause(ctx)
	var mu sync.Mutex
	var timer *time.Timer
	var failed error
	mu.Lock()
	timer = time.AfterFunc(f.heartbeat, func() {
		mu.Lock()
		defer mu.Unlock()
		if ctx.Err() != nil {
			return
		}
		if failed = f.out.write(heartbeat); failed != nil {
			cancel(failed)
			return
		}
		timer.Reset(f.heartbeat)
	})
	mu.Unlock()
	return ctx, func() error {
		timer.Stop()
		mu.Lock() // a heartbeat is being written
		defer mu.Unlock()
		cancel(nil)
		return failed
	}
}

// lose goes on with what the log retains. It does nothing if the log holds the cursor: then it ends
// before the seam, which is out of date.
func (f *feed) lose(at *source, p consumer.Partition, lost *consumer.OutOfRangeError) {
	from := at.next(p.ID)
	reason := consumer.GapRetention
	switch {
	case from > lost.End:
		reason = consumer.GapUnknownID
	case from >= lost.Start:
		return
	}
	at.set(p.ID, lost.Start)
	f.gap(gapData{p.Topic, &gapRange{p.ID, from, lost.Start}, reason})
}
