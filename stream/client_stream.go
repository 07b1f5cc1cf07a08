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

// Kafka is what streams need of Kafka: [consumer.Consumer] is one.
type Kafka interface {
	Join(ctx context.Context, user string) (sources []consumer.UserTopic, err error)
	Leave(user string)
	Replay(ctx context.Context, user string, ranges []consumer.Range, fn func(*consumer.Range, *consumer.Record) bool)
	Delivered(p consumer.Partition, topicID [16]byte, next int64)
	DeliveredTo(ctx context.Context, user string) (map[consumer.Partition]int64, error)
	Since(ctx context.Context, partitions []consumer.Partition, t time.Time) (map[consumer.Partition]int64, error)
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
	kafka     Kafka
	heartbeat time.Duration
	limits    Limits
	longIDs   *longIDs        // nil: nobody is warned
	life      context.Context //nolint:containedctx // the life of all streams
	spawn     func(func())    // starts a goroutine
}

// clientStream is one open stream: it brings the client from its cursor to now and keeps it there. It is
// used by one goroutine at a time, see [engine].
type clientStream struct {
	*service
	sub    *subscription
	out    output
	types  []string // the event types to send; nil: all
	joined bool     // hub and log know of it
	closed func(cause error)

	from   netip.Addr
	slot   int         // of its heartbeats; guarded by roster.mu
	expiry *time.Timer // nil: the viewer's token does not end

	tokenID  string
	issuedAt time.Time

	begun bool   // an event with an id was written
	at    cursor // what was written, or considered and not for this user
	moved int64  // offsets by which at has moved since the client was told an id
	buf   *buffer
	large *large // a large event whose id ends buf, until it is begun
	rest  []byte // of buf or else of large, what is still to be written

	taken *queue // records that waited, of which the first done are written; nil: all are
	done  int

	// writing is held to use out, buf and rest while heartbeats are written by a timer and records by a
	// pass over a log: as long as the stream waits ([clientStream.keepAlive]).
	writing sync.Mutex

	written []progress // positions behind the events in buf

	// waiting are partitions for which Kafka had no answer: they are behind, and tried again later,
	// while the others go on.
	waiting map[consumer.Partition]struct{}
	again   *time.Timer // when they are tried again
	turn    int         // which of the partitions that are behind is replayed first

	ends map[consumer.Partition]int64 // of logs that were met shorter than they were read
}

// progress is how far a partition was delivered.
type progress struct {
	consumer.Partition
	topicID [16]byte
	next    int64
}

// gap tells of a loss, with the cursor behind it as its id.
func (f *clientStream) gap(g gapData) {
	f.hub.metrics.gaps.WithLabelValues(string(g.Reason)).Inc()
	f.own(TypeGap, g)
}

func (f *clientStream) checkpoint() { f.own(TypeCheckpoint, struct{}{}) }

func (f *clientStream) own(eventType string, data any) {
	b := f.id()
	b.b = appendOwn(b.b, eventType, data)
}

// bytes returns the buffer to append to.
func (f *clientStream) bytes() *buffer {
	if f.buf == nil {
		f.buf = newBuffer()
	}
	return f.buf
}

// pending is how many bytes wait to be written.
func (f *clientStream) pending() int {
	if f.buf == nil {
		return 0
	}
	return len(f.buf.b) - headroom
}

// id writes the cursor as the id of the event that follows.
func (f *clientStream) id() *buffer {
	b := f.bytes()
	b.b = append(b.b, "id: "...)
	b.b = append(appendID(b.b, f.at), '\n')
	f.moved = 0
	return b
}

// send writes what the client takes at once; what it does not is in f.rest.
func (f *clientStream) send() (err error) {
	if f.pending() == 0 {
		return nil
	}
	f.rest, err = f.out.send(f.buf.b)
	return f.afterWrite(err)
}

// afterWrite goes on behind a write that took all, or came to an error.
func (f *clientStream) afterWrite(err error) error {
	if f.large != nil && err == nil && len(f.rest) == 0 {
		f.rest, err = f.out.sendLarge(f.large)
		f.large = nil
	}
	if err == nil && len(f.rest) == 0 {
		f.sent()
	}
	return err
}

// sent lets go of the buffer, which was written.
func (f *clientStream) sent() {
	for _, p := range f.written {
		f.kafka.Delivered(p.Partition, p.topicID, p.next)
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
func (f *clientStream) finish() error {
	for len(f.rest) > 0 {
		err := f.out.finish(f.rest)
		f.rest = nil
		if err = f.afterWrite(err); err != nil {
			return err
		}
	}
	return nil
}

// flush writes the buffer and waits for the client to take it; of one that was written in part only what
// is left, without what was appended since.
func (f *clientStream) flush() error {
	if len(f.rest) == 0 {
		if err := f.send(); err != nil {
			return err
		}
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
func (f *clientStream) quick() {
	for {
		behind, ended := f.gather()
		err := f.send()
		switch {
		case err != nil:
			f.close(err)
			return
		case len(f.rest) > 0 || f.taken == nil && (behind || ended != nil):
			f.spawn(f.slow)
			return
		case f.taken == nil && f.sub.release():
			return
		}
	}
}

// slow does what may have to wait, until there is nothing more to do.
func (f *clientStream) slow() {
	err := f.finish()
	for err == nil {
		behind, ended := f.gather()
		switch {
		case f.taken != nil:
			err = f.flush()
			continue
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
func (f *clientStream) wait(fn func(context.Context) error) error {
	ctx, done := f.sub.contextUntilEnd(f.life)
	defer done()
	return fn(ctx)
}

// close ends the response: if the stream is to end, with the reason and behind all that waits.
func (f *clientStream) close(cause error) {
	reason, told := errors.AsType[EndError](cause)
	if told {
		b := f.bytes()
		if reason == ErrTooMany {
			b.b = appendOpening(b.b, time.Hour)
		}
		b.b = appendOwn(b.b, TypeEnd, endData{reason})
		told = f.flush() == nil
	}
	if f.again != nil {
		f.again.Stop()
	}
	f.out.close(told)
	if f.joined {
		f.hub.removeSubscription(f.sub)
		f.kafka.Leave(f.sub.user)
	}
	f.sub.end(cause) // unless it was to end anyway
	f.closed(f.sub.endCause())
}

// gather writes what waits into the buffer: records, up to the first large one, a heartbeat if one is
// due, now and then with the position a quiet stream has come to. With f.taken there is more to gather
// once that is written.
func (f *clientStream) gather() (behind bool, ended error) {
	if f.taken != nil {
		f.take(f.sub.endCause())
		return false, nil
	}
	var now *cursor
	if f.sub.takeHeartbeatRequest() { // before the queue is taken: all records before these positions are in it
		now = f.hub.positions(f.sub.topics)
		defer cursors.Put(now)
	}
	f.taken, behind, ended = f.sub.takeQueue()
	f.done = 0
	f.take(ended)
	if f.taken != nil || now == nil { // a large event is as good as a heartbeat
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
func (f *clientStream) advance(now cursor) {
	for i := range now {
		at := &f.at[i]
		if at.incarnation != now[i].incarnation {
			continue
		}
		for _, p := range now[i].positions {
			if from := at.nextOffset(p.partition); from < p.next && at.hasPartition(p.partition) && !f.waits(at.name, p.partition) {
				at.setNextOffset(p.partition, p.next)
				f.moved += p.next - from
			}
		}
	}
}

// wrote notes what was delivered of the user's own topics. A stream that has chosen event types says
// nothing: what it leaves out was delivered to nobody.
func (f *clientStream) wrote(p consumer.Partition, id [16]byte, next int64) {
	if f.types != nil || !f.sub.topic(p.Topic).Own {
		return
	}
	for i := range f.written {
		if f.written[i].Partition == p && f.written[i].topicID == id {
			f.written[i].next = next
			return
		}
	}
	f.written = append(f.written, progress{p, id, next})
}

// take writes the records taken into the buffer, each with the cursor behind it as its id, up to the
// first large one: nothing may come between its id and its lines. When there is none any more, or access
// was revoked, f.taken is nil.
func (f *clientStream) take(ended error) {
	q := f.taken
	if q == nil {
		return
	}
	if errors.Is(ended, ErrRevoked) {
		f.done = len(q.items)
	}
	live, text := 0, 0
	if f.done > 0 {
		text = q.items[f.done-1].end
	}
	for ; f.done < len(q.items) && f.large == nil; f.done++ {
		it := &q.items[f.done]
		lines := q.text[text:it.end]
		text = it.end
		at := f.at.topic(it.partition.Topic)
		if at == nil {
			continue // the stream has not this topic: it could not be read when the stream began
		}
		from := at.nextOffset(it.partition.ID)
		if it.offset < from || f.waits(it.partition.Topic, it.partition.ID) {
			continue // was replayed, or will be
		}
		if f.stray(at, it) {
			continue
		}
		at.setNextOffset(it.partition.ID, it.offset+1)
		if !f.wants(it.eventType) {
			f.moved += it.offset + 1 - from
			continue
		}
		b := f.id()
		b.b = append(b.b, lines...)
		f.large = it.large
		f.wrote(it.partition, at.topicID, it.offset+1)
		live++
	}
	f.hub.metrics.live.Add(float64(live))
	if f.large == nil {
		q.free()
		f.taken = nil
	}
}

// wants says whether events of the type are to be sent.
func (f *clientStream) wants(eventType string) bool {
	return f.types == nil || slices.Contains(f.types, eventType)
}
