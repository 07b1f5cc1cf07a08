package stream

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"herald/consumer"
)

// The types of Herald's own events. A record's event never has one of these types, see
// [CheckType].
const (
	TypeCheckpoint = "checkpoint" // carries an id to resume from, and no record
	TypeHeartbeat  = "heartbeat"  // shows that the stream is alive, where the client wants heartbeats as events
	TypeGap        = "gap"        // records were lost to this stream
	TypeEnd        = "end"        // the last event of a stream that the server ends
)

// TypeDelete is the type of a tombstone's event. Records with a value may have it too.
const TypeDelete = "delete"

// TypeMessage is the type of an event that has no "event" field (WHATWG HTML, section 9.2.6).
const TypeMessage = "message"

// IsOwn reports whether events of the type are Herald's own, and not records.
func IsOwn(eventType string) bool {
	switch eventType {
	case TypeCheckpoint, TypeHeartbeat, TypeGap, TypeEnd:
		return true
	}
	return false
}

// maxType is how long an event type may be, in bytes.
const maxType = 128

// The errors of [CheckType].
var (
	errTypeEmpty    = errors.New("this event type is empty")
	errTypeLong     = fmt.Errorf("this event type is longer than %d bytes", maxType)
	errTypeEncoding = errors.New("this event type is not UTF-8")
	errTypeLines    = errors.New("this event type has a line break or a NUL")
	errTypeReserved = errors.New("this event type is reserved: checkpoint, heartbeat, gap and end are Herald's own events, open and error are events of EventSource itself")
)

// CheckType returns an error, which says why, for an event type that a record cannot have. A record with such a
// type arrives as "message".
func CheckType(eventType string) error {
	switch {
	case eventType == "":
		return errTypeEmpty
	case len(eventType) > maxType:
		return errTypeLong
	case !utf8.ValidString(eventType):
		return errTypeEncoding
	case strings.ContainsAny(eventType, "\r\n\x00"):
		return errTypeLines
	case IsOwn(eventType), eventType == "open", eventType == "error":
		return errTypeReserved
	}
	return nil
}

// appendRecord appends the event and data lines of a record and the blank line that ends the event. The stream
// writes the id line before them.
func appendRecord(b []byte, eventType string, value []byte) []byte {
	return append(appendData(appendType(b, eventType), value), '\n')
}

// appendType appends the event line, which the type message does not need.
func appendType(b []byte, eventType string) []byte {
	if eventType != TypeMessage {
		b = append(b, "event: "...)
		b = append(b, eventType...)
		b = append(b, '\n')
	}
	return b
}

// appendData appends value as data lines. CR LF, CR and LF each end a line, as in the event stream format, and
// reach the client as LF. Bytes that are not UTF-8 become U+FFFD.
func appendData(b, value []byte) []byte {
	value = toUTF8(value)
	for {
		b = append(b, "data: "...)
		end := bytes.IndexAny(value, "\r\n")
		if end < 0 {
			return append(append(b, value...), '\n')
		}
		b = append(append(b, value[:end]...), '\n')
		if value[end] == '\r' && end+1 < len(value) && value[end+1] == '\n' {
			end++
		}
		value = value[end+1:]
	}
}

// appendOpening appends the first lines of a stream, which set the reconnection time. WebKit takes the rest of an
// event that a broken connection left for the beginning of the next stream (EventSource::didFail keeps it). The
// colon ends a line that was cut. Without a blank line the rest becomes a part of the first event that follows.
// That event is a checkpoint: its type and id take precedence, and the rest does no harm.
func appendOpening(b []byte, retry time.Duration) []byte {
	return fmt.Appendf(b, ":\nretry: %d\n", retry.Milliseconds())
}

// appendOwn appends one of Herald's own events, with data as JSON. The caller appends an id line before it.
func appendOwn(b []byte, eventType string, data any) []byte {
	b = append(b, "event: "+eventType+"\n"...)
	text, err := json.Marshal(data)
	if err != nil {
		text = []byte("{}") // the types marshalled here cannot fail
	}
	b = append(b, "data: "...)
	return append(append(b, text...), '\n', '\n')
}

// gapData is the data of a gap event. Without a source, the client's id was not an id. Without a range, the gap is
// about the whole topic.
type gapData struct {
	Source string `json:"source,omitempty"`
	*gapRange
	Reason consumer.GapReason `json:"reason"`
}

type gapRange struct {
	Partition int32 `json:"partition"`
	From      int64 `json:"from"`
	To        int64 `json:"to"`
}

// checkpointData is the data of a checkpoint. A plain checkpoint has none of the members.
type checkpointData struct {
	Live      bool             `json:"live,omitzero"`      // replay has met live: the client has all records up to here
	Viewer    string           `json:"viewer,omitzero"`    // [Viewer.name], in the first checkpoint of a stream with positions
	Heartbeat int64            `json:"heartbeat,omitzero"` // milliseconds between heartbeats; where heartbeats are events
	Pos       map[string]int64 `json:"pos,omitzero"`       // by partition: the last offset that the stream has considered; -1: none
}

// appendEvent appends the lines of the checkpoint after its id. Most checkpoints have one of two texts, which need no
// encoding: each stream that opens has one or two.
func (d checkpointData) appendEvent(b []byte) []byte {
	switch {
	case d.Heartbeat != 0, d.Pos != nil:
		return appendOwn(b, TypeCheckpoint, d)
	case d.Live:
		return append(b, "event: "+TypeCheckpoint+"\ndata: {\"live\":true}\n\n"...)
	default:
		return append(b, "event: "+TypeCheckpoint+"\ndata: {}\n\n"...)
	}
}

type endData struct {
	Reason EndError `json:"reason"`
}
