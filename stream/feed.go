package stream

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"time"

	"herald/consumer"
)

// Log is what streams need of Kafka; [consumer.Consumer] is one.
type Log interface {
	Join(ctx context.Context, user string) (sources []consumer.Source, err error)
	Leave(user string)
	Replay(ctx context.Context, user string, ranges []consumer.Range, fn func(*consumer.Range, *consumer.Record) bool)
	Delivered(p consumer.Partition, next int64)
	DeliveredTo(ctx context.Context, user string) (map[consumer.Partition]int64, error)
	Since(ctx context.Context, sources []consumer.Source, t time.Time) (map[consumer.Partition]int64, error)
	Confirm(ctx context.Context, topic string, topicID [16]byte) error
	Range(ctx context.Context, p consumer.Partition, topicID [16]byte) (start, end int64, err error)
}

const (
	checkpointAfter = 10_000      // offsets by which a quiet stream's position may move before it is told
	retryAfter      = time.Second // for partitions that wait
)

// replayPiece is how many bytes of a replay a stream collects before it writes them: a pass over a log
// serves all who wait for it, thousands after a cut, and each of them holds so much. With the id and the
// frame of one more event it fits into a buffer.
const replayPiece = newBufferSize - 512

// heartbeat is a comment: it tells proxies and clients that the connection is in use.
const heartbeat = ":\n"

// service is what all streams have in common.
type service struct {
	hub       *Hub
	log       Log
	heartbeat time.Duration
	limits    Limits
	life      context.Context //nolint:containedctx // the life of all streams
	spawn     func(func())    // starts a goroutine
}

// feed is one open stream: it brings the client from its cursor to now and keeps it there. It is
// used by one goroutine at a time, see [engine].
type feed struct {
	*service
	sub    *subscription
	out    output
	types  []string // the event types to send; nil: all
	joined bool     // hub and log know of it
	closed func(cause error)

	from   netip.Addr  // guarded by roster.mu, as is slot
	slot   int         // of its heartbeats
	expiry *time.Timer // nil: the viewer's token does not end

	tokenID  string
	issuedAt time.Time

	begun bool   // an event with an id was written
	at    cursor // what was written, or considered and not for this user
	moved int64  // offsets by which at has moved since the client was told an id
	buf   *buffer
	rest  []byte // of buf, what is still to be written

	writing sync.Mutex // while heartbeats may be written by another goroutine

	written []progress // positions behind the events in buf

	// waiting are partitions for which Kafka had no answer: they are behind, and tried again later,
	// while the others go on.
	waiting map[consumer.Partition]struct{}
	again   *time.Timer // when they are tried again
	turn    int         // which of the partitions that are behind is replayed first
}

// progress is how far a partition was delivered.
type progress struct {
	consumer.Partition
	next int64
}

// gap tells of a loss, with the cursor behind it as its id.
func (f *feed) gap(g gapData) {
	f.hub.metrics.gaps.WithLabelValues(string(g.Reason)).Inc()
	f.own(typeGap, g)
}

func (f *feed) checkpoint() { f.own(typeCheckpoint, struct{}{}) }

func (f *feed) own(eventType string, data any) {
	b := f.id()
	b.b = appendOwn(b.b, eventType, data)
}

// bytes returns the buffer to append to.
func (f *feed) bytes() *buffer {
	if f.buf == nil {
		f.buf = newBuffer()
	}
	return f.buf
}

// pending is how many bytes wait to be written.
func (f *feed) pending() int {
	if f.buf == nil {
		return 0
	}
	return len(f.buf.b) - headroom
}

// id writes the cursor as the id of the event that follows.
func (f *feed) id() *buffer {
	b := f.bytes()
	b.b = append(b.b, "id: "...)
	b.b = append(appendID(b.b, f.at), '\n')
	f.moved = 0
	return b
}

// send writes what the client takes at once; what it does not is in f.rest.
func (f *feed) send() (err error) {
	if f.pending() == 0 {
		return nil
	}
	if f.rest, err = f.out.send(f.buf.b); err == nil && len(f.rest) == 0 {
		f.sent()
	}
	return err
}

// sent lets go of the buffer, which was written.
func (f *feed) sent() {
	for _, p := range f.written {
		f.log.Delivered(p.Partition, p.next)
	}
	clear(f.written)
	f.written = f.written[:0]
	f.rest = nil
	if f.buf != nil {
		f.buf.free()
		f.buf = nil
	}
}

// finish writes the rest and waits for the client to take it.
func (f *feed) finish() error {
	if len(f.rest) == 0 {
		return nil
	}
	err := f.out.finish(f.rest)
	if err == nil {
		f.sent()
	}
	return err
}

// flush writes the buffer and waits for the client to take it.
func (f *feed) flush() error {
	if err := f.send(); err != nil {
		return err
	}
	return f.finish()
}

// write writes a text and waits for the client to take it.
func write(out output, text string) error {
	b := newBuffer()
	b.b = append(b.b, text...)
	rest, err := out.send(b.b)
	if err == nil && len(rest) > 0 {
		err = out.finish(rest)
	}
	b.free()
	return err
}

// quick does what can be done without waiting, and leaves what cannot to a goroutine.
func (f *feed) quick() {
	for {
		behind, ended := f.gather()
		err := f.send()
		switch {
		case err != nil:
			f.close(err)
			return
		case len(f.rest) > 0 || behind || ended != nil:
			f.spawn(f.slow)
			return
		case f.sub.release():
			return
		}
	}
}

// slow does what may have to wait, until there is nothing more to do.
func (f *feed) slow() {
	err := f.finish()
	for err == nil {
		behind, ended := f.gather()
		switch {
		case ended != nil:
			f.close(ended)
			return
		case behind:
			if err = f.flush(); err == nil {
				err = f.wait(f.catchUp)
			}
		default:
			err = f.flush()
		}
		if err == nil && f.sub.release() {
			return
		}
	}
	f.close(err)
}

// wait calls fn with a context that ends with the stream.
func (f *feed) wait(fn func(context.Context) error) error {
	ctx, done := f.sub.waiting(f.life)
	defer done()
	return fn(ctx)
}

// close ends the response: if the stream is to end, with the reason and behind all that waits.
func (f *feed) close(cause error) {
	reason, told := errors.AsType[EndError](cause)
	if told {
		b := f.bytes()
		if reason == ErrTooMany {
			b.b = appendOpening(b.b, time.Hour)
		}
		b.b = appendOwn(b.b, typeEnd, endData{reason})
		if err := f.flush(); err != nil {
			cause, told = err, false
		}
	}
	if f.again != nil {
		f.again.Stop()
	}
	f.out.close(told)
	if f.joined {
		f.hub.remove(f.sub)
		f.log.Leave(f.sub.user)
	}
	f.closed(cause)
}

// gather writes what waits into the buffer: records, a heartbeat if one is due, now and then with
// the position a quiet stream has come to.
func (f *feed) gather() (behind bool, ended error) {
	var now *cursor
	if f.sub.beating() { // before the queue is taken: all records before these positions are in it
		now = f.hub.positions(f.sub.sources)
		defer cursors.Put(now)
	}
	q, behind, ended := f.sub.take()
	if q != nil {
		f.take(q)
		q.free()
	}
	if now == nil {
		return behind, ended
	}
	if !behind {
		f.advance(*now)
	}
	if f.moved >= checkpointAfter {
		f.checkpoint()
	} else {
		b := f.bytes()
		b.b = append(b.b, heartbeat...)
	}
	return behind, ended
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

// wrote notes what was delivered of the user's own topics.
func (f *feed) wrote(p consumer.Partition, next int64) {
	if !f.sub.source(p.Topic).Own {
		return
	}
	for i := range f.written {
		if f.written[i].Partition == p {
			f.written[i].next = next
			return
		}
	}
	f.written = append(f.written, progress{p, next})
}

// take writes queued records into the buffer, each with the cursor behind it as its id.
func (f *feed) take(q *queue) {
	live, text := 0, 0
	for i := range q.items {
		it := &q.items[i]
		lines := q.text[text:it.end]
		text = it.end
		at := f.at.source(it.partition.Topic)
		if at == nil {
			continue // the stream has not this topic: it could not be read when the stream began
		}
		from := at.next(it.partition.ID)
		if it.offset < from || f.waits(it.partition.Topic, it.partition.ID) {
			continue // was replayed, or will be
		}
		if f.stray(at, it) {
			continue
		}
		at.set(it.partition.ID, it.offset+1)
		if !f.wants(it.eventType) {
			f.moved += it.offset + 1 - from
			continue
		}
		b := f.id()
		b.b = append(b.b, lines...)
		f.wrote(it.partition, it.offset+1)
		live++
	}
	f.hub.metrics.live.Add(float64(live))
}

// wants says whether events of the type are to be sent.
func (f *feed) wants(eventType string) bool {
	return f.types == nil || slices.Contains(f.types, eventType)
}

// catchUp replays from the cursor to where live delivery takes over. Partitions that cannot get there
// for now are left waiting.
func (f *feed) catchUp(ctx context.Context) error {
	f.waiting = make(map[consumer.Partition]struct{})
	f.sub.rejoin()
	seam := f.hub.seam(f.sub.sources)
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
			f.postpone(now.topic, p.partition)
		}
		return
	}
	appeared := at.incarnation.tag == absent.tag
	*at = newSource(at.topic, now.incarnation)
	if !appeared {
		f.gap(gapData{Source: at.topic, Reason: consumer.GapRecreated})
	}
}

func (f *feed) postpone(topic string, partition int32) {
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
			f.postpone(at.topic, p.partition)
			continue
		}
		f.lose(at, partition, &consumer.OutOfRangeError{Start: start, End: end})
	}
}

// approach replays pieces of the partitions that are before the seam, all at once: each pass over a
// log then serves all that there is to serve. It returns false when all of them are there or wait. It
// begins with another one each time: a client that is cut again and again must get on in all of them.
func (f *feed) approach(ctx context.Context, seam cursor) (more bool, err error) {
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
	f.log.Replay(reading, f.sub.user, behind, func(at *consumer.Range, r *consumer.Record) bool {
		var more bool
		more, failed = f.replay(at.Partition, r)
		return more
	})
	if err := alive(); err != nil {
		return false, err
	}
	if failed == nil {
		failed = f.finish() // before anything is written behind it
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
func (f *feed) behind(seam cursor) (behind []consumer.Range) {
	for i := range seam {
		at := &f.at[i]
		for _, p := range seam[i].positions {
			if next := at.next(p.partition); next < p.next && !f.waits(at.topic, p.partition) {
				behind = append(behind, consumer.Range{Partition: consumer.Partition{Topic: at.topic, ID: p.partition}, TopicID: at.id, Next: next, To: p.next})
			}
		}
	}
	return behind
}

// replay takes in a record that is read again. It returns false if the client has to take what there
// is first.
func (f *feed) replay(p consumer.Partition, r *consumer.Record) (more bool, err error) {
	eventType := eventTypeOf(r, f.hub.typeHeader)
	if r.Value == nil || !f.wants(eventType) {
		return true, nil
	}
	if n := f.pending(); n > 0 && n+len(r.Value) > replayPiece {
		if more, err := f.pass(); !more {
			return false, err
		}
	}
	f.at.source(p.Topic).set(p.ID, r.Offset+1)
	b := f.id()
	b.b = appendRecord(b.b, eventType, r.Value)
	f.wrote(p, r.Offset+1)
	f.hub.metrics.replayed.Inc()
	return true, nil
}

// pass writes the buffer from within a replay, if the client takes all of it at once: so whoever reads
// as fast as the log is read goes with one pass over it.
func (f *feed) pass() (all bool, err error) {
	if !f.writing.TryLock() {
		return false, nil // a heartbeat waits for the client
	}
	defer f.writing.Unlock()
	err = f.send()
	return err == nil && len(f.rest) == 0, err
}

// replayed takes in how far a range came from where it began. It returns false if that is nowhere.
func (f *feed) replayed(r *consumer.Range, begun int64) bool {
	at := f.at.source(r.Topic)
	if shown := at.next(r.ID); r.Next > shown { // what lies between is not for this user
		f.moved += r.Next - shown
		at.set(r.ID, r.Next)
	}
	if lost, ok := errors.AsType[*consumer.OutOfRangeError](r.Err); ok {
		f.lose(at, r.Partition, lost)
	}
	if bad, ok := errors.AsType[*consumer.UnreadableError](r.Err); ok {
		at.set(r.ID, bad.Next)
		f.gap(gapData{r.Topic, &gapRange{r.ID, bad.Offset, bad.Next}, consumer.GapUnreadable})
	}
	moved := at.next(r.ID) != begun
	if r.Err != nil && !moved {
		f.postpone(r.Topic, r.ID)
	}
	return moved
}

// keepAlive writes heartbeats while the stream waits for Kafka, until the function that it returns is
// called, which nothing else may be written before. If the client is gone, the context ends and the
// function says why.
func (f *feed) keepAlive(ctx context.Context) (context.Context, func() error) {
	ctx, cancel := context.WithCancelCause(ctx)
	var timer *time.Timer
	var failed error
	f.writing.Lock()
	timer = time.AfterFunc(f.heartbeat, func() {
		f.writing.Lock()
		defer f.writing.Unlock()
		if ctx.Err() != nil {
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
