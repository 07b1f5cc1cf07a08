package stream

import (
	"crypto/sha256"
	"io"
	"runtime"
	"sync"
	"weak"
)

// largeValue is from how many bytes on a record's event is shared by the streams that have it before
// them. A small one is copied for each, which is faster than a write of its own.
const largeValue = 32 << 10

// large is an event that streams share, without an id: its lines, and the same as a chunk.
type large struct {
	encoding    sync.Once
	text, chunk []byte
}

// size is in bytes; none of nil.
func (l *large) size() int {
	if l == nil {
		return 0
	}
	return len(l.chunk)
}

// largeKey is the SHA-256 of what an event is made of: the place of its record is not enough, for after
// an unclean leader election another record may be there, of another user.
type largeKey [sha256.Size]byte

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

// shareEvent returns the event of a record, which is made if no stream has it; nil if it is a small one.
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
	_, _ = io.WriteString(h, eventType+"\x00") // which an event type does not contain
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

// forgetEvent is called when nobody has the event any more.
func (l *larges) forgetEvent(key largeKey) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.events[key].Value() == nil { // else it was made again meanwhile
		delete(l.events, key)
	}
}
