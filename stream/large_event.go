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

// largeKey is the SHA-256 of the lines, or of what they are made of. The position of the record would not be enough: after an
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

// What a shared event is made of. It distinguishes events that are made of the same bytes.
const (
	ofValue    = "value\x00"    // a type and a value
	ofEnvelope = "envelope\x00" // a value, as the last member of a JSON object
	ofLines    = "lines\x00"    // the lines themselves
)

// shareValue returns the shared lines of a value (see [appendValue]), and encodes them if no stream has them.
func (l *larges) shareValue(s shape, eventType string, value []byte) *large {
	madeOf := ofValue + eventType + "\x00" // an event type contains no NUL
	if s.has(showEnvelope) {
		madeOf = ofEnvelope
	}
	e := l.findEvent(keyOf(madeOf, value))
	e.encoding.Do(func() {
		e.setLines(appendValue(make([]byte, headroom, headroom+len(value)+1024), s, eventType, value))
	})
	return e
}

// shareLines returns the shared event that has these lines.
func (l *larges) shareLines(lines []byte) *large {
	e := l.findEvent(keyOf(ofLines, lines))
	e.encoding.Do(func() { e.setLines(append(make([]byte, headroom, headroom+len(lines)+len("\r\n")), lines...)) })
	return e
}

// setLines sets the lines of the event, which b has after the headroom.
func (l *large) setLines(b []byte) {
	size := len(b) - headroom
	l.chunk = chunk(b)
	end := len(l.chunk) - len("\r\n")
	l.text = l.chunk[end-size : end]
}

func keyOf(madeOf string, bytes []byte) (key largeKey) {
	h := sha256.New()
	_, _ = io.WriteString(h, madeOf)
	_, _ = h.Write(bytes)
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
