package stream

import (
	"cmp"
	"mime"
	"strconv"
	"strings"
)

// answerFormat is what a client reads.
type answerFormat uint8

const (
	eventStream answerFormat = iota
	jsonObject               // a poll, as one object
	jsonLines                // a poll, one event a line
)

// contentTypes are the values of the header Content-Type. text/event-stream names the charset, although it is always
// UTF-8: Python's requests takes a text without it for Latin-1.
var contentTypes = [...]string{eventStream: "text/event-stream; charset=utf-8", jsonObject: "application/json", jsonLines: "application/x-ndjson"}

// readAccept returns the format that a header Accept asks for (RFC 9110, section 12.5.1). A client gets JSON only if it
// names JSON, and prefers nothing to it. Otherwise it gets the event stream: a client that accepts anything, and a
// browser that somebody leads to the stream, which names text/html. Of two formats the first takes precedence.
func readAccept(values []string) (format answerFormat) {
	best, stream := 0.0, true
	for one := range strings.SplitSeq(strings.Join(values, ","), ",") {
		name, params, err := mime.ParseMediaType(one)
		quality := 1.0
		if q, given := params["q"]; given && err == nil {
			quality, err = strconv.ParseFloat(q, 64)
		}
		if err != nil || quality <= 0 || quality < best {
			continue
		}
		if quality > best {
			best, format, stream = quality, eventStream, false
		}
		switch name {
		case "text/event-stream", "text/html":
			stream = true
		case "application/json":
			format = cmp.Or(format, jsonObject)
		case "application/x-ndjson":
			format = cmp.Or(format, jsonLines)
		}
	}
	if stream {
		return eventStream
	}
	return format
}
