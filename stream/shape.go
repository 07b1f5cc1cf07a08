package stream

import (
	"fmt"
	"strings"
	"time"
)

// shape is how a client wants the events of records. Streams of one shape get the same bytes, so that a record is
// encoded once for all of them. The zero shape is the plain one: an event has its type and the record's value.
type shape uint8

const (
	showTime     shape = 1 << iota // the record's timestamp
	showKey                        // the record's key
	showPos                        // the record's partition and offset
	showHeaders                    // the record headers of [Hub.headers]
	showEnvelope                   // the fields and the value are a JSON object in data
)

// showFields are the bits of the fields.
const showFields = showTime | showKey | showPos | showHeaders

func (s shape) has(bits shape) bool { return s&bits != 0 }

// fieldBits are the names in the query parameter fields.
var fieldBits = map[string]shape{"time": showTime, "key": showKey, "pos": showPos, "headers": showHeaders}

// readFields reads the query parameter fields.
func (r *streamRequest) readFields(list string, _ time.Time) error {
	for name := range strings.SplitSeq(list, ",") {
		bit, known := fieldBits[strings.TrimSpace(name)]
		if !known {
			return fmt.Errorf("%.40q is not a field: want some of time, key, pos and headers, with commas between them", name)
		}
		r.shape |= bit
	}
	return nil
}

// readFormat reads the query parameter format.
func (r *streamRequest) readFormat(format string, _ time.Time) error {
	if format != "json" {
		return fmt.Errorf("%.40q: want json, or leave the parameter out", format)
	}
	r.shape |= showEnvelope
	return nil
}
