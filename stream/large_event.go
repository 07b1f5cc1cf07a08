package stream

import (
	"crypto/sha256"
	"fmt"
	"runtime"
	"sync"
	"weak"
)

// largeValue is the size, in bytes, from which all streams that wait to write a record's event share its bytes. A
// smaller event is copied for each stream, which is faster than a separate write.
const largeValue = 32 << 10

// large is the part of an event after its id and fields that streams share: its lines, and the same lines as an HTTP
// chunk.
type large struct {
	encoding    sync.Once
	text, chunk []byte
}

// size returns the size in bytes; 0 for nil.
func (l *large) size() int {
	if l == nil {
		return 0
	}
	return len(l.chunk)
}

// largeKey is the SHA-256 of the parts of the lines: the fields, the type and the value. The record's offset would
// not be enough: after an unclean leader election another user's record may have the same offset.
type largeKey [sha256.Size]byte

// larges holds the large events that a stream has still to write. Each is in memory once, whether it came live or
// by replay, and however many streams wait to write it.
type larges struct {
	least int // the smallest size of a large event's value, in bytes

	mu     sync.Mutex
	events map[largeKey]weak.Pointer[large]
}

func newLarges() *larges {
	return &larges{least: largeValue, events: make(map[largeKey]weak.Pointer[large])}
}

// shareEvent returns the shared lines of a value (see [appendValue]) after the fields, which may be empty. It encodes
// them if no stream has them.
func (l *larges) shareEvent(fields []byte, s shape, eventType string, value []byte) *large {
	e := l.findEvent(keyOf(fields, s, eventType, value))
	e.encoding.Do(func() {
		b := append(make([]byte, headroom, headroom+len(fields)+len(value)+1024), fields...)
		b = appendValue(b, s, eventType, value)
		size := len(b) - headroom
		e.chunk = chunk(b)
		end := len(e.chunk) - len("\r\n")
		e.text = e.chunk[end-size : end]
	})
	return e
}

func keyOf(fields []byte, s shape, eventType string, value []byte) (key largeKey) {
	if s.has(showEnvelope) {
		eventType = "" // it stands before the value, with the fields
	}
	h := sha256.New()
	_, _ = fmt.Fprintf(h, "%d %t %t %s\x00", len(fields), s.has(showEnvelope), value == nil, eventType) // an event type contains no NUL
	_, _ = h.Write(fields)
	_, _ = h.Write(value)
	h.Sum(key[:0])
	return key
}

func (l *larges) findEvent(key largeKey) *large {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.events[key].Value()
	if e == nil {
		e = new(large)
		l.events[key] = weak.Make(e)
		runtime.AddCleanup(e, l.forgetEvent, key)
	}
	return e
}

// forgetEvent runs when no stream has the event any more.
func (l *larges) forgetEvent(key largeKey) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.events[key].Value() == nil { // otherwise a stream has encoded it again meanwhile
		delete(l.events, key)
	}
}
