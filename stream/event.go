package stream

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"herald/consumer"
)

// The types of Herald's own events. A record's event never has one of these types, see
// [ValidType].
const (
	TypeCheckpoint = "checkpoint" // carries an id to resume from, and no record
	TypeGap        = "gap"        // records were lost to this stream
	TypeEnd        = "end"        // the last event of a stream that the server ends
)

// TypeMessage is the type of an event that has no "event" field (WHATWG HTML, section 9.2.6).
const TypeMessage = "message"

// reserved says whether a record may not have this event type: it is one of Herald's own, or one
// that an EventSource dispatches itself.
func reserved(eventType string) bool {
	switch eventType {
	case TypeCheckpoint, TypeGap, TypeEnd, "open", "error":
		return true
	}
	return false
}

// ValidType says whether records can have this event type; others arrive as "message".
func ValidType(eventType string) bool {
	return eventType != "" && len(eventType) <= 128 && utf8.ValidString(eventType) &&
		!strings.ContainsAny(eventType, "\r\n\x00") && !reserved(eventType)
}

// eventTypeOf returns the type of a record's event, which the header called typeHeader holds.
func eventTypeOf(r *consumer.Record, typeHeader string) string {
	if eventType, ok := r.Header(typeHeader); ok && ValidType(string(eventType)) {
		return string(eventType)
	}
	return TypeMessage
}

// appendRecord appends the event and data lines of a record and the blank line that ends it. The
// id line is the stream's own and goes before.
func appendRecord(b []byte, eventType string, value []byte) []byte {
	if eventType != TypeMessage {
		b = append(b, "event: "...)
		b = append(b, eventType...)
		b = append(b, '\n')
	}
	return append(appendData(b, value), '\n')
}

// appendData appends value as data lines. CR LF, CR and LF each end a line, as the event stream
// format has it, and reach the client as LF; bytes that are no UTF-8 become U+FFFD.
func appendData(b, value []byte) []byte {
	if !utf8.Valid(value) {
		value = bytes.ToValidUTF8(value, []byte("\uFFFD"))
	}
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

// appendOpening appends what a stream begins with: the reconnection time. WebKit takes what a broken
// connection left of an event for the beginning of the next connection's stream (EventSource::didFail
// keeps it). The colon ends a line that was cut, and without a blank line what was left is a part of
// the first event that follows, whose type and id go before: a checkpoint, for which it does no harm.
func appendOpening(b []byte, retry time.Duration) []byte {
	return fmt.Appendf(b, ":\nretry: %d\n", retry.Milliseconds())
}

// appendOwn appends one of Herald's own events. data is marshalled as JSON. An id line goes before.
func appendOwn(b []byte, eventType string, data any) []byte {
	b = append(b, "event: "+eventType+"\n"...)
	text, err := json.Marshal(data)
	if err != nil {
		text = []byte("{}") // the types marshalled here cannot fail
	}
	b = append(b, "data: "...)
	return append(append(b, text...), '\n', '\n')
}

// gapData is a gap event's data. Without a source the id was none, without a range all of the topic
// is meant.
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

type endData struct {
	Reason EndError `json:"reason"`
}
