package stream

import (
	"crypto/sha256"
	"io"
	"runtime"
	"sync"
	"weak"
)

// largeValue is the size, in bytes, from which all streams that wait to write a record's event share its bytes. A
// smaller event is copied for each stream, which is faster than a separate write.
const largeValue = 32 << 10

// large is an event without its id that streams share: its lines, and the same lines as an HTTP chunk.
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

// largeKey is the SHA-256 of an event's type and value. The position of the record would not be enough: after an
// unclean leader election another user's record may have the same position.
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

// shareEvent returns the shared event of a record, and encodes it if no stream has it; nil if the event is small.
func (l *larges) shareEvent(eventType string, value []byte) *large {
	if len(value) < l.least {
		return nil
	}
	e := l.findEvent(keyOf(eventType, value))
	e.encoding.Do(func() {
		b := appendRecord(make([]byte, headroom, headroom+len(value)+1024), eventType, value)
		size := len(b) - headroom
		e.chunk = chunk(b)
		end := len(e.chunk) - len("\r\n")
		e.text = e.chunk[end-size : end]
	})
	return e
}

func keyOf(eventType string, value []byte) (key largeKey) {
	h := sha256.New()
	_, _ = io.WriteString(h, eventType+"\x00") // an event type contains no NUL
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
