package stream

import (
	"slices"
	"time"

	"herald/consumer"
)

// State is what a stream does at one moment.
type State string

// The states of streams.
const (
	StateLive       State = "live"              // the client has everything that Herald has read from Kafka
	StateCatchingUp State = "catching-up"       // missed records are on their way to the client
	StateWaiting    State = "waiting-for-kafka" // Kafka does not answer for a partition that concerns the user
	StateSlow       State = "slow"              // the client does not take the bytes that wait for it
)

// States are all states.
var States = []State{StateLive, StateCatchingUp, StateWaiting, StateSlow}

// A client counts as slow when a write has waited for it for slowAfter. Kafka counts as silent when it has answered
// nothing about a partition for silentAfter: a fetch of a quiet partition is answered after a second.
const (
	slowAfter   = time.Second
	silentAfter = 5 * time.Second
)

// glance is what a listing sees of a stream at one moment.
type glance struct {
	open    bool // the stream has not ended
	settled bool // at is the stream's cursor; false: a goroutine serves the stream at this moment
	begun   bool // the stream knows where it begins
	idle    bool // the client has everything before the hub's positions that were read before
	behind  bool // the stream catches up, or will
	waits   bool // Kafka has no answer for some partitions
	slow    bool
	at      cursor // valid until the cursor given to look is used again
	topics  []consumer.UserTopic
	records int // the records that wait
	bytes   int // about how many bytes wait
}

// look looks at the stream. It copies the stream's cursor to at. It holds the lock of the subscription only while it
// copies.
//
// The fields of a stream belong to the goroutine that serves it. Three kinds of streams have fields that others may
// read under the lock: a stream that no goroutine serves, because a goroutine would have to take the lock first; a
// stream whose goroutine waits for the client (subscription.park); and a stream that waits for Kafka, which has
// published a copy (kafkaWait).
func (s *clientStream) look(at *cursor) glance {
	sub := s.sub
	sub.mu.Lock()
	defer sub.mu.Unlock()
	g := glance{open: sub.ended == nil, behind: sub.behind, settled: true}
	if sub.queue != nil {
		g.records, g.bytes = len(sub.queue.items), sub.queue.size()
	}
	switch {
	case sub.parked != 0 || !sub.busy:
		g.open, g.begun = true, s.begun
		g.idle = !sub.busy && !sub.behind && sub.queue == nil
		g.waits = len(s.catchUp.waiting) > 0
		g.slow = sub.parked != 0 && time.Since(time.UnixMilli(sub.parked)) >= slowAfter
		at.copyFrom(s.writer.cursor)
		g.addUnsent(s)
	case sub.wait != nil:
		g.begun, g.behind = sub.wait.begun, true
		at.copyFrom(*sub.wait.at)
	default:
		g.settled = false
	}
	if g.settled && g.begun {
		g.topics, g.at = sub.topics, *at
	}
	return g
}

// addUnsent adds what the goroutine of the stream has taken from the queue and the client has not taken.
func (g *glance) addUnsent(s *clientStream) {
	g.bytes += len(s.writer.rest) + s.writer.large.size()
	if q := s.taken; q != nil {
		from := 0
		if s.done > 0 {
			from = q.items[s.done-1].end
		}
		left := q.items[s.done:]
		g.records += len(left)
		g.bytes += len(q.text) - from + len(left)*itemOverhead
		for i := range left {
			g.bytes += left[i].sharedSize()
		}
	}
}

// state returns the state of the stream, with the logs that the listing knows.
func (g *glance) state(logs knownLogs) State {
	switch {
	case g.slow:
		return StateSlow
	case g.settled && (!g.begun || g.waits || logs.areSilent(g.at)):
		return StateWaiting
	case g.behind:
		return StateCatchingUp
	default:
		return StateLive
	}
}

// knownLogs are the ends of the logs that one listing has asked the consumer for, by topic.
type knownLogs struct {
	source Logs
	now    time.Time
	topics map[string]knownTopic
}

// knownTopic is a topic of [knownLogs].
type knownTopic struct {
	ends   []consumer.LogEnd // by partition
	silent []int32           // the partitions that no broker has answered for lately
}

// Logs knows where Kafka's logs end. [consumer.Consumer] implements it.
type Logs interface {
	LogEnds(topic string) []consumer.LogEnd
}

func newKnownLogs(source Logs) knownLogs {
	return knownLogs{source: source, now: time.Now(), topics: make(map[string]knownTopic)}
}

func (l knownLogs) topic(name string) knownTopic {
	t, known := l.topics[name]
	if known {
		return t
	}
	t.ends = l.source.LogEnds(name)
	for id := range t.ends {
		if l.now.Sub(t.ends[id].Answered) >= silentAfter {
			t.silent = append(t.silent, int32(id))
		}
	}
	l.topics[name] = t
	return t
}

// areSilent reports whether Kafka is silent about a partition of the cursor's stream.
func (l knownLogs) areSilent(at cursor) bool {
	for i := range at {
		if slices.ContainsFunc(l.topic(at[i].name).silent, at[i].hasPartition) {
			return true
		}
	}
	return false
}

// countBehind returns the number of records between the cursor and the ends of the logs, of all users. It returns false if an
// end or a position is not known.
func (l knownLogs) countBehind(at cursor) (behind int64, known bool) {
	for i := range at {
		for id, end := range l.topic(at[i].name).ends {
			id := int32(id)
			switch {
			case !at[i].hasPartition(id):
			case end.Answered.IsZero() || at[i].isSought(id):
				return 0, false
			default:
				behind += max(0, end.End-max(end.Start, at[i].nextOffset(id)))
			}
		}
	}
	return behind, true
}
