package stream

import (
	"runtime"
	"sync"
	"weak"

	"herald/consumer"
)

// largeValue is from how many bytes on a record's event is shared by the streams that have it before
// them. A small one is copied for each, which is faster than a write of its own.
const largeValue = 32 << 10

// large is an event that streams share, without an id: its lines, and the same as a chunk.
type large struct{ text, chunk []byte }

// size is in bytes; none of nil.
func (l *large) size() int {
	if l == nil {
		return 0
	}
	return len(l.chunk)
}

// largeKey is the place of a large event's record.
type largeKey struct {
	topicID   [16]byte
	partition int32
	offset    int64
}

// larges are the large events that some stream has before it, so that each is in memory once, whether
// it comes live or by replay and however many streams are slow to take it.
type larges struct {
	least int // bytes of a large event's value

	mu     sync.Mutex
	events map[largeKey]weak.Pointer[large]
}

func newLarges() *larges {
	return &larges{least: largeValue, events: make(map[largeKey]weak.Pointer[large])}
}

// of returns the event of a record; nil if it is a small one.
func (l *larges) of(topicID [16]byte, partition int32, eventType string, r *consumer.Record) *large {
	if len(r.Value) < l.least {
		return nil
	}
	key := largeKey{topicID, partition, r.Offset}
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.events[key].Value(); e != nil {
		return e
	}
	b := appendRecord(make([]byte, headroom, headroom+len(r.Value)+1024), eventType, r.Value)
	size := len(b) - headroom
	b = chunk(b)
	end := len(b) - len("\r\n")
	e := &large{text: b[end-size : end], chunk: b}
	l.events[key] = weak.Make(e)
	runtime.AddCleanup(e, l.forget, key)
	return e
}

// forget is called when nobody has the event any more.
func (l *larges) forget(key largeKey) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.events[key].Value() == nil { // else it was made again meanwhile
		delete(l.events, key)
	}
}
