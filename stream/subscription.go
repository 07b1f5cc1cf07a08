package stream

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"herald/consumer"
)

// item is one record waiting for a stream.
type item struct {
	partition *consumer.Partition // is shared by all items of the partition
	offset    int64
	eventType string
	end       int     // where its event and data lines end in the queue's text; they begin where the lines before end
	shared    *[]byte // the lines of a broadcast, which are not in the text; or undecodable or notReady
	large     *large  // what follows the lines of a large event
	times     recordTimes
}

// itemOverhead is the memory of a waiting item without its text, in bytes.
const itemOverhead = 72

// traceOverhead is the memory of the trace of a waiting item, in bytes, if no other stream shares it.
const traceOverhead = 256

// sharedSize returns the size, in bytes, of the lines that the item shares with the queues of other streams.
func (it *item) sharedSize() int {
	size := it.large.size()
	if it.shared != nil {
		size += len(*it.shared)
	}
	return size
}

// queue holds the records that wait for one stream. A stream has a queue only while records wait. Queues come
// from a pool, so that in the long run a record allocates nothing.
type queue struct {
	items       []item
	text        []byte
	sharedBytes int           // the size of the lines that it shares with other queues
	traces      []queuedTrace // of the items whose records are traced
}

// keepItems and keepText bound the room of a queue that returns to the pool.
const (
	keepItems = 256
	keepText  = 32 << 10
)

var queues = sync.Pool{New: func() any { return new(queue) }}

func (q *queue) addItem(it item, text []byte, traced *recordTrace) {
	if traced != nil {
		q.traces = append(q.traces, queuedTrace{len(q.items), traced})
	}
	q.text = append(q.text, text...)
	it.end = len(q.text)
	q.sharedBytes += it.sharedSize()
	q.items = append(q.items, it)
}

// size returns about how many bytes the queue takes. Shared lines count in full in each queue that has them.
func (q *queue) size() int {
	return len(q.text) + q.sharedBytes + len(q.items)*itemOverhead + len(q.traces)*traceOverhead
}

func (q *queue) free() {
	if cap(q.items) <= keepItems && cap(q.text) <= keepText {
		clear(q.items)
		q.items, q.text, q.sharedBytes, q.traces = q.items[:0], q.text[:0], 0, nil
		queues.Put(q)
	}
}

// subscription is what other goroutines leave for a stream: records, a heartbeat, a reason to catch up or to
// end. Leaving something schedules the stream. Nobody who leaves something waits for the stream.
type subscription struct {
	user     string
	topics   []consumer.UserTopic // sorted by name; set before the hub has the subscription
	places   []int32              // among the readers of each topic; guarded by readerSet.mu; nil: the hub does not have the subscription
	members  *memberships         // the values of claims; nil: the viewer has none; set before the hub has the subscription
	older    *subscription        // the next older stream of the user; guarded by Hub.mu
	maxBytes int
	stream   *clientStream       // has the subscription
	serve    func(*clientStream) // schedules the stream; it must not wait

	mu           sync.Mutex
	queue        *queue // nil: no record waits
	behind       bool   // the stream drops live records; a replay will send them
	heartbeatDue bool
	liveDue      bool       // the stream must check whether replay has met live
	busy         bool       // the stream is being served, or is scheduled
	shape        shape      // not guarded: set before the hub has the subscription
	conditional  bool       // the stream's choice has conditions; not guarded, like shape
	ended        error      // why the stream has to end
	wait         *kafkaWait // nil: the stream does not wait for Kafka
	parked       int64      // since when the stream's goroutine waits for the client, in Unix milliseconds; 0: it does not
}

// kafkaWait is a wait of a stream for Kafka. Other goroutines use the fields of the stream meanwhile, so it has a copy
// of the fields that a listing needs.
type kafkaWait struct {
	cancel context.CancelCauseFunc // ends the context of the wait
	begun  bool                    // clientStream.begun
	at     *cursor                 // the stream's cursor when it was last published
}

// newSubscription returns the subscription of a stream that is being served and is behind. Until the stream has
// compared its cursor with the log, it may not take a live record: the record would move the cursor over
// records that a replay has still to bring.
func newSubscription(user string, maxBytes int, stream *clientStream, serve func(*clientStream)) *subscription {
	return &subscription{user: user, maxBytes: maxBytes, stream: stream, serve: serve, behind: true, busy: true}
}

// hasTopic reports whether the stream has the topic: its viewer may see it, if it is a broadcast, and has a value of the
// topic's claim. broadcasts are the broadcast topics that the viewer may see; nil: all.
func (s *subscription) hasTopic(t *consumer.UserTopic, broadcasts []string) bool {
	if t.Claim != "" {
		return len(s.members.valuesOf(t.Claim)) > 0
	}
	return !t.Broadcast || broadcasts == nil || slices.Contains(broadcasts, t.Topic)
}

// topic returns one of the stream's topics by its name.
func (s *subscription) topic(topic string) *consumer.UserTopic {
	return &s.topics[s.topicIndex(topic)]
}

func (s *subscription) topicIndex(topic string) int {
	i, _ := slices.BinarySearchFunc(s.topics, topic, func(s consumer.UserTopic, topic string) int { return cmp.Compare(s.Topic, topic) })
	return i
}

// without returns the user's newest stream once old is left out of the list, which begins at s. It returns nil if
// there is no other stream.
func (s *subscription) without(old *subscription) (newest *subscription) {
	if s == old {
		return s.older
	}
	newer := s
	for newer.older != old {
		newer = newer.older
	}
	newer.older = old.older
	return s
}

// wantsRecord reports whether the stream gets the record, if it gets events of its type.
func (s *subscription) wantsRecord(r *consumer.Record) bool {
	return s.shape.wantsRecord(r) && (!s.conditional || s.stream.writer.choice.meets(r))
}

// placeIn returns the place of the subscription among the topic's readers.
func (s *subscription) placeIn(topic string) *int32 { return &s.places[s.topicIndex(topic)] }

// pushRecord queues an item with its event and data lines. It does not wait. An empty queue takes an item that is
// larger than the bound. If a queue is full, the stream falls behind. traced is the record's trace; nil: nobody traces
// it. pushRecord returns by how many bytes the queue has grown.
func (s *subscription) pushRecord(it item, text []byte, traced *recordTrace) (grown int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.behind || s.ended != nil {
		return 0
	}
	if it.shared == notReady {
		s.behind = true
		s.serveLocked()
		return 0
	}
	grown = len(text) + it.sharedSize() + itemOverhead
	if traced != nil {
		grown += traceOverhead
	}
	if s.queue == nil {
		s.queue = queues.Get().(*queue) //nolint:forcetypeassert // nothing else is in there
	} else if s.queue.size()+grown > s.maxBytes {
		s.behind = true
		s.stream.env.overflow(s)
		s.serveLocked()
		return 0
	}
	s.queue.addItem(it, text, traced)
	s.serveLocked()
	return grown
}

// requestCatchUp makes the stream compare its cursor with the log before it takes live records again.
func (s *subscription) requestCatchUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.behind = true
	s.serveLocked()
}

// requestHeartbeat makes the stream write a heartbeat.
func (s *subscription) requestHeartbeat() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heartbeatDue = true
	s.serveLocked()
}

// requestLiveCheck makes the stream check whether replay has met live.
func (s *subscription) requestLiveCheck() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.liveDue = true
	s.serveLocked()
}

// end makes the stream end. The first cause counts.
func (s *subscription) end(cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended != nil {
		return
	}
	s.ended = cause
	if s.wait != nil {
		s.wait.cancel(cause)
	}
	s.serveLocked()
}

// endCaughtUp is end, but it does nothing if the stream has to catch up first. The records in the queue are still
// sent.
func (s *subscription) endCaughtUp(cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended == nil && !s.behind {
		s.ended = cause
	}
}

// endCause returns why the stream has to end; nil if it does not.
func (s *subscription) endCause() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

// serveLocked schedules the stream, unless it is being served or scheduled already.
func (s *subscription) serveLocked() {
	if !s.busy {
		s.busy = true
		s.serve(s.stream)
	}
}

// takeRequests takes the requests for a heartbeat and for a check whether replay has met live.
func (s *subscription) takeRequests() (heartbeat, live bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	heartbeat, live = s.heartbeatDue, s.liveDue
	s.heartbeatDue, s.liveDue = false, false
	return heartbeat, live
}

// takeQueue takes the queue, which may be nil. It reports whether the stream is behind, and why it has to end.
func (s *subscription) takeQueue() (q *queue, behind bool, ended error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q, s.queue = s.queue, nil
	return q, s.behind, s.ended
}

// isBehind reports whether the stream must catch up.
func (s *subscription) isBehind() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.behind
}

// acceptLiveRecords makes the subscription queue live records again.
func (s *subscription) acceptLiveRecords() {
	s.mu.Lock()
	s.behind = false
	s.mu.Unlock()
}

// release ends the serving of the stream if nothing is left to do. Then it returns true, and the caller may not
// touch the stream again.
func (s *subscription) release() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.queue != nil || s.behind || s.heartbeatDue || s.liveDue || s.ended != nil {
		return false
	}
	s.busy = false
	return true
}

// beginWait begins a wait for Kafka. The context ends with the stream. The function ends the wait.
func (s *subscription) beginWait(ctx context.Context, begun bool, at cursor) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	wait := &kafkaWait{cancel: cancel, begun: begun, at: newCursorCopy(at)}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wait = wait
	if s.ended != nil {
		cancel(s.ended)
	}
	return ctx, func() {
		s.mu.Lock()
		s.wait = nil
		s.mu.Unlock()
		cursors.Put(wait.at)
		cancel(nil)
	}
}

// publishCursor lets listings see how far a stream that waits for Kafka has come.
func (s *subscription) publishCursor(at cursor) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wait != nil {
		s.wait.at.copyFrom(at)
	}
}

// park notes that the stream's goroutine waits for the client. Until unpark, it touches no field of the stream, so that a
// listing may read them under the lock.
func (s *subscription) park() {
	now := time.Now().UnixMilli()
	s.mu.Lock()
	s.parked = now
	s.mu.Unlock()
}

func (s *subscription) unpark() {
	s.mu.Lock()
	s.parked = 0
	s.mu.Unlock()
}
