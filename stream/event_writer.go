package stream

import (
	"cmp"
	"sync"
	"sync/atomic"
	"time"

	"herald/consumer"
)

// eventWriter frames a stream's events, each with the stream's cursor as its id, and sends them to the
// client. It holds the cursor because an id says how far the stream has come with the event.
//
// A writer is in one of four states, which follow from its fields:
//
//	           append               attachLarge
//	empty ───────────────► filling ─────────────► sealed
//	  ▲                       │                      │
//	  │   the client takes    │         send         │
//	  ├───────────────────────┴──────────┬───────────┘
//	  │   all bytes                      │  the client takes a part
//	  │                                  ▼
//	  └────────────────────────────── partial
//	      finish: the client has taken the rest
//
// Events are appended in the states empty and filling only. In the state sealed, the buffer ends with the
// id of a large event, whose shared lines follow it: nothing may come between an id and its lines. In the
// state partial, bytes that were appended would get into the middle of an event.
//
// The goroutine that serves the stream uses the writer. While that goroutine waits for Kafka, other goroutines use
// it too: the timer of withHeartbeats, and the passes over Kafka's logs that serve the stream's replay, one at a
// time. Therefore every write to out holds mu.
type eventWriter struct {
	env    *writerEnv
	sub    *subscription // of the stream
	out    output
	choice *choice // the records to send
	poll   *poll   // nil: the stream does not end by itself
	cursor cursor  // after everything sent, appended, or considered and not for this user
	shape  shape   // how the client wants events
	moved  int64   // offsets by which the cursor has moved since the last id
	beat   string  // a heartbeat: [heartbeatComment] or an event

	buf     *buffer    // events that wait to be sent; nil: none do
	large   *large     // the large event whose id ends buf
	written []progress // how far the user's own topics will have been delivered once buf is sent

	bytes  atomic.Int64  // the bytes of events that the client has taken
	events atomic.Uint32 // the records appended
	last   atomic.Uint32 // when the client last took bytes, in seconds as [delays] tells the time, plus 1; 0: never

	mu   sync.Mutex // guards rest, held and the use of out
	rest []byte     // the bytes of buf, or of the large event after buf, that the client has not taken
	held *buffer    // events that withHeartbeats holds back, to be sent before the events in buf; nil: none
}

// writerState is the state of an [eventWriter].
type writerState int

const (
	writerEmpty   writerState = iota // nothing waits
	writerFilling                    // the buffer has events
	writerSealed                     // the buffer has events and ends with the id of a large event
	writerPartial                    // the client took a part of the bytes sent
)

// state derives the writer's state from its fields, so that the two cannot contradict each other.
func (w *eventWriter) state() writerState {
	switch {
	case len(w.rest) > 0:
		return writerPartial
	case w.large != nil:
		return writerSealed
	case w.pending() > 0:
		return writerFilling
	default:
		return writerEmpty
	}
}

// progress is how far a partition of one incarnation was delivered.
type progress struct {
	consumer.Partition
	topicID [16]byte
	next    int64
}

// buffer returns the buffer to append to. Streams have a buffer only while they write.
func (w *eventWriter) buffer() *buffer {
	if w.buf == nil {
		w.buf = newBuffer()
	}
	return w.buf
}

// pending returns the number of bytes of the events in the buffer.
func (w *eventWriter) pending() int {
	if w.buf == nil {
		return 0
	}
	return len(w.buf.b) - headroom
}

// appendIDLine appends the cursor as the id of the event that follows.
func (w *eventWriter) appendIDLine() *buffer {
	b := w.buffer()
	b.b = append(b.b, "id: "...)
	b.b = append(appendID(b.b, w.cursor), '\n')
	w.moved = 0
	return b
}

// appendRecordID appends the id line of a record's event. The cursor is after the record already. own says
// that the record is of one of the user's own topics: then Kafka is informed once the event is sent.
//
// A stream of chosen records reports no delivery: the records that it leaves out were delivered to nobody.
func (w *eventWriter) appendRecordID(p consumer.Partition, topicID [16]byte, next int64, own bool) *buffer {
	w.poll.countRecord()
	w.events.Add(1)
	b := w.appendIDLine()
	if !own || w.choice != nil {
		return b
	}
	for i := range w.written {
		if w.written[i].Partition == p && w.written[i].topicID == topicID {
			w.written[i].next = next
			return b
		}
	}
	w.written = append(w.written, progress{p, topicID, next})
	return b
}

// attachLarge makes the large event follow the id that was appended last. nil attaches nothing.
func (w *eventWriter) attachLarge(event *large) { w.large = event }

// appendGap appends a gap event, which reports lost records. Its id is after the gap.
func (w *eventWriter) appendGap(g gapData) {
	w.poll.countGap()
	w.env.metrics.gaps.WithLabelValues(string(g.Reason)).Inc()
	b := w.appendIDLine()
	b.b = appendOwn(b.b, TypeGap, g)
}

// appendCheckpoint appends a checkpoint, an event that carries the cursor and no record. If the buffer ends with a
// checkpoint, the new one takes its place and its data.
func (w *eventWriter) appendCheckpoint(data checkpointData) {
	if w.shape.has(showPos) {
		data.Pos = w.cursor.lastOffsets()
	}
	b := w.buffer()
	if last := &b.checkpoint; last.to == len(b.b) {
		data.Live = data.Live || last.data.Live
		data.Viewer = cmp.Or(data.Viewer, last.data.Viewer)
		data.Heartbeat = max(data.Heartbeat, last.data.Heartbeat)
		b.b = b.b[:last.from]
	}
	b.checkpoint.from = len(b.b)
	w.appendIDLine()
	b.b = data.appendEvent(b.b)
	b.checkpoint.to, b.checkpoint.data = len(b.b), data
}

// appendHeartbeat appends a heartbeat. An event has an id if the cursor has moved since the last id.
func (w *eventWriter) appendHeartbeat() {
	if w.moved > 0 && w.sendsBeats() {
		w.appendIDLine()
	}
	b := w.buffer()
	b.b = append(b.b, w.beat...)
}

// sendsBeats reports whether heartbeats are events.
func (w *eventWriter) sendsBeats() bool { return w.beat != heartbeatComment }

// appendEnd appends the event that ends the stream, without an id.
func (w *eventWriter) appendEnd(reason EndError) {
	b := w.buffer()
	if reason == ErrTooMany {
		b.b = appendOpening(b.b, time.Hour)
	}
	b.b = appendOwn(b.b, TypeEnd, endData{reason})
}

// send sends what the client takes at once. The writer's state is then empty, or partial if the client did
// not take everything.
func (w *eventWriter) send() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sendLocked()
}

// trySend is send for a replay. It never waits, because the goroutine of a pass over a log serves many streams:
// it sends nothing while a heartbeat is being written. all is true if the client took everything. Then the stream
// can stay in the pass.
func (w *eventWriter) trySend() (all bool, err error) {
	if !w.mu.TryLock() {
		return false, nil
	}
	defer w.mu.Unlock()
	err = w.sendLocked()
	return err == nil && len(w.rest) == 0, err
}

func (w *eventWriter) sendLocked() (err error) {
	w.joinHeldLocked()
	if w.pending() == 0 {
		w.reportSentLocked() // withHeartbeats may have sent records past the buffer
		return nil
	}
	w.env.metrics.delays.beginWrite(w.buf)
	w.rest, err = w.out.send(w.buf.b)
	w.recordTaken(w.pending()-len(w.rest), w.buf.written)
	return w.continueLocked(err)
}

// continueLocked is called after a write. If the client took everything, it sends the attached large event
// and then frees the buffer.
func (w *eventWriter) continueLocked(err error) error {
	if w.large != nil && err == nil && len(w.rest) == 0 {
		w.rest, err = w.out.sendLarge(w.large)
		w.recordTaken(w.large.size()-len(w.rest), w.env.metrics.delays.now())
		w.large = nil
	}
	switch {
	case err != nil:
	case len(w.rest) == 0:
		w.reportSentLocked()
	case w.buf != nil:
		w.buf.waits = true
	}
	return err
}

// reportSentLocked informs Kafka of the delivered records and frees the buffer, all of which was sent. If the client has
// nothing until it has the whole answer, reportWhole informs Kafka later.
func (w *eventWriter) reportSentLocked() {
	if !w.poll.isWhole() {
		w.reportLocked()
	}
	w.rest = nil
	if w.buf != nil {
		w.env.metrics.delays.endWrite(w.buf)
		w.endTracesLocked(w.buf)
		w.buf.free()
		w.buf = nil
	}
}

func (w *eventWriter) reportLocked() {
	for _, p := range w.written {
		w.env.kafka.Delivered(p.Partition, p.topicID, p.next)
	}
	clear(w.written)
	w.written = w.written[:0]
}

// reportWhole informs Kafka of the records of an answer that was sent to its end, and ends their traces.
func (w *eventWriter) reportWhole() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reportLocked()
	if w.poll != nil {
		endTraces(w.poll.traces)
		w.poll.traces = nil
	}
}

// finish sends the rest and waits until the client has taken it.
func (w *eventWriter) finish() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.finishLocked()
}

func (w *eventWriter) finishLocked() error {
	for len(w.rest) > 0 {
		err := w.finishRest()
		w.rest = nil
		if err = w.continueLocked(err); err != nil {
			return err
		}
	}
	return nil
}

// finishRest waits until the client has taken the rest.
func (w *eventWriter) finishRest() error {
	w.sub.park()
	defer w.sub.unpark()
	if err := w.out.finish(w.rest); err != nil {
		return err
	}
	w.recordTaken(len(w.rest), w.env.metrics.delays.now())
	return nil
}

// taken returns the bytes of events that the client has taken.
func (w *eventWriter) taken() int64 { return max(0, w.bytes.Load()) }

// recordTaken notes that the client has taken bytes at the time that [delays] tells. It counts the bytes of events: the sizes of HTTP's chunks are
// in the rest of a write, but not in the event, so that taken may be a few bytes below 0 if the client took nothing.
func (w *eventWriter) recordTaken(taken int, at time.Duration) {
	w.bytes.Add(int64(taken))
	if taken > 0 {
		w.last.Store(uint32(at/time.Second) + 1) //nolint:gosec // for 136 years
	}
}

// lastTaken returns when the client last took bytes, to the second. It returns nil if the client never did.
func (w *eventWriter) lastTaken() *time.Time {
	last := w.last.Load()
	if last == 0 {
		return nil
	}
	middle := time.Duration(last-1)*time.Second + time.Second/2 // of the second
	at := time.Now().Add(min(0, middle-w.env.metrics.delays.now())).UTC().Truncate(time.Millisecond)
	return &at
}

// discard drops all events that wait to be sent.
func (w *eventWriter) discard() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buf, w.held, w.large, w.rest = nil, nil, nil, nil
}

// flush sends everything and waits until the client has taken it.
func (w *eventWriter) flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.rest) == 0 {
		if err := w.sendLocked(); err != nil {
			return err
		}
	}
	return w.finishLocked()
}
