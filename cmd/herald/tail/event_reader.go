package tail

import (
	"io"
	"strings"
	"time"

	"herald/stream"
)

// readSize is how many bytes an EventReader asks its stream for at a time.
const readSize = 4 << 10

// Event is one event of a stream.
type Event struct {
	Type string // "message" unless the stream names another type
	ID   string // the last event id, which an earlier event may have set
	Data string // lines end in LF; bytes that are not UTF-8 are U+FFFD
}

// EventReader reads the events of a text/event-stream as WHATWG HTML, section 9.2.6, describes. It
// deviates in one point, as browsers do: the last event id of the connection before remains until
// this connection sets one.
type EventReader struct {
	r      io.Reader
	err    error // r's, once r has returned one
	blocks BlockReader
	buffer [readSize]byte
	lastID string // of the last complete block
}

// NewEventReader reads events from r. lastID is the id that the stream was resumed from. It may be
// empty.
func NewEventReader(r io.Reader, lastID string) *EventReader {
	return &EventReader{r: r, lastID: lastID}
}

// LastID returns the id to resume from: the last event id after the last complete block.
func (er *EventReader) LastID() string { return er.lastID }

// Retry returns the reconnection time that the stream has set. It is zero until the stream sets one.
func (er *EventReader) Retry() time.Duration { return er.blocks.Retry }

// Next returns the next event. At the stream's end it drops an incomplete event with its id, and
// returns the error of the stream's reader, which is [io.EOF] for an orderly end.
func (er *EventReader) Next() (Event, error) {
	var b Block
	for {
		for er.blocks.Next(&b) {
			if b.HasID {
				er.lastID = string(b.ID)
			}
			if b.HasData {
				return er.event(&b), nil
			}
		}
		if er.err != nil {
			return Event{}, er.err
		}
		var n int
		n, er.err = er.r.Read(er.buffer[:])
		if err := er.blocks.Push(er.buffer[:n]); err != nil {
			return Event{}, err
		}
	}
}

func (er *EventReader) event(b *Block) Event {
	e := Event{
		Type: strings.ToValidUTF8(string(b.Type), "\ufffd"),
		ID:   er.lastID,
		Data: strings.ToValidUTF8(string(b.Data), "\ufffd"),
	}
	if e.Type == "" {
		e.Type = stream.TypeMessage
	}
	return e
}
