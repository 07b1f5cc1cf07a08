package main

import (
	"bufio"
	"errors"
	"io"
	"strings"
	"time"
)

const (
	// maxEvent bounds an event's data and any line, in bytes; Kafka's records have 1 MiB by default.
	maxEvent = 32 << 20
	// maxRetry bounds the reconnection time a server can ask for.
	maxRetry = time.Hour
	// bom is U+FEFF in UTF-8; one at the start of a stream is not a part of it.
	bom = "\xef\xbb\xbf"
)

// errEventTooLarge says that a stream has an event of more than [maxEvent] bytes.
var errEventTooLarge = errors.New("an event is larger than 32 MiB")

// event is one event of a stream.
type event struct {
	Type string // "message" unless the stream says otherwise
	ID   string // the last event id, which may be an earlier event's
	Data string // lines end in LF; bytes that are no UTF-8 are U+FFFD
}

// eventReader reads a text/event-stream as WHATWG HTML, section 9.2.6, says. One deviation, which
// browsers share: the last event id is that of the stream before until this one has its own.
type eventReader struct {
	lines  lineReader
	limit  int           // of an event's data and of a line, in bytes
	lastID string        // of the last complete block
	retry  time.Duration // reconnection time; zero until the stream says one
}

// newEventReader reads events from r. lastID is where the stream was resumed from; may be empty.
func newEventReader(r io.Reader, lastID string) *eventReader {
	return &eventReader{lines: lineReader{r: bufio.NewReader(r), limit: maxEvent}, limit: maxEvent, lastID: lastID}
}

// next returns the next event. At the stream's end an incomplete event is dropped, its id too, and
// the error is the reader's: [io.EOF] for an orderly end.
func (er *eventReader) next() (event, error) {
	e := event{ID: er.lastID}
	var data strings.Builder
	for {
		line, err := er.lines.next()
		if err != nil {
			return event{}, err
		}
		if line == "" {
			er.lastID = e.ID // also of a block without data, which dispatches nothing
			if data.Len() > 0 {
				return finish(e, data.String()), nil
			}
			e.Type = ""
			continue
		}
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch field { // a comment's field is empty
		case "event":
			e.Type = value
		case "data":
			data.WriteString(value)
			data.WriteByte('\n')
			if data.Len() > er.limit {
				return event{}, errEventTooLarge
			}
		case "id":
			if !strings.Contains(value, "\x00") {
				e.ID = value
			}
		case "retry":
			if d, ok := parseRetry(value); ok {
				er.retry = d
			}
		}
	}
}

func finish(e event, data string) event {
	e.Data = strings.ToValidUTF8(strings.TrimSuffix(data, "\n"), "\ufffd")
	e.Type = strings.ToValidUTF8(e.Type, "\ufffd")
	if e.Type == "" {
		e.Type = "message"
	}
	return e
}

// parseRetry reads milliseconds: ASCII digits and nothing else. More than an hour is an hour.
func parseRetry(text string) (time.Duration, bool) {
	if text == "" {
		return 0, false
	}
	var ms int64
	for i := range len(text) {
		if text[i] < '0' || text[i] > '9' {
			return 0, false
		}
		ms = min(ms*10+int64(text[i]-'0'), maxRetry.Milliseconds())
	}
	return time.Duration(ms) * time.Millisecond, true
}

// lineReader cuts a stream into lines that end in CR LF, LF or CR.
type lineReader struct {
	r       *bufio.Reader
	limit   int
	begun   bool
	afterCR bool // a LF now would belong to the line before
}

// next returns the next complete line without its end. It does not wait for the byte behind a CR:
// the line is complete without it, and a live stream may not send it for long.
func (lr *lineReader) next() (string, error) {
	var line []byte
	for {
		b, err := lr.r.ReadByte()
		if err != nil {
			return "", err
		}
		pairs := lr.afterCR && b == '\n'
		lr.afterCR = false
		switch {
		case pairs:
			continue
		case b == '\n' || b == '\r':
			lr.afterCR = b == '\r'
			return lr.first(string(line)), nil
		case len(line) == lr.limit:
			return "", errEventTooLarge
		}
		line = append(line, b)
	}
}

// first takes the byte order mark off the stream's first line.
func (lr *lineReader) first(line string) string {
	if lr.begun {
		return line
	}
	lr.begun = true
	return strings.TrimPrefix(line, bom)
}
