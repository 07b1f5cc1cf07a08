package integration

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// event is one event as an EventSource dispatches it.
type event struct {
	ID   string // the last event ID when it was dispatched
	Type string // "message" if the stream names none
	Data string
}

// eventReader reads an event stream (WHATWG HTML, section 9.2.6). Unlike a browser it returns an error for invalid
// UTF-8, which Herald must never send.
type eventReader struct {
	r        *bufio.Reader
	begun    bool
	afterCR  bool   // a LF now belongs to the line that has ended
	idBuffer string // the "last event ID buffer"
	Comments int
	Retry    string // the last value of a retry field
}

// next returns the next event; io.EOF is the end of the stream. An event that the end of the
// stream truncates is discarded.
func (e *eventReader) next() (event, error) {
	var eventType string
	var data strings.Builder
	for {
		line, err := e.line()
		if err != nil {
			return event{}, err
		}
		if line == "" {
			if data.Len() > 0 {
				if eventType == "" {
					eventType = "message"
				}
				return event{e.idBuffer, eventType, strings.TrimSuffix(data.String(), "\n")}, nil
			}
			eventType = ""
			continue
		}
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "":
			e.Comments++
		case "event":
			eventType = value
		case "data":
			data.WriteString(value)
			data.WriteByte('\n')
		case "id":
			if !strings.Contains(value, "\x00") {
				e.idBuffer = value
			}
		case "retry":
			if value != "" && strings.Trim(value, "0123456789") == "" {
				e.Retry = value
			}
		}
	}
}

// line returns the next line without its end: CR LF, LF or CR. A line without an end is discarded.
func (e *eventReader) line() (string, error) {
	var line strings.Builder
	for {
		c, err := e.r.ReadByte()
		if err != nil {
			return "", err
		}
		afterCR := e.afterCR
		e.afterCR = c == '\r'
		switch {
		case c == '\n' && afterCR:
			continue
		case c != '\n' && c != '\r':
			line.WriteByte(c)
			continue
		}
		text := line.String()
		if !e.begun {
			e.begun = true
			text = strings.TrimPrefix(text, "\uFEFF")
		}
		if !utf8.ValidString(text) {
			return "", fmt.Errorf("line %.80q is not UTF-8", text)
		}
		return text, nil
	}
}

// TestEventReader checks the tests' own client against the examples and rules of WHATWG HTML,
// section 9.2.6, so that the other tests can rely on it.
func TestEventReader(t *testing.T) {
	tests := []struct {
		name, stream string
		want         []event
	}{
		{"two data lines", "data: YHOO\ndata: +2\ndata: 10\n\n", []event{{"", "message", "YHOO\n+2\n10"}}},
		{
			"ids last until they change", ": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
			[]event{{"1", "message", "first event"}, {"", "message", "second event"}, {"", "message", " third event"}},
		},
		{"no value", "data\n\ndata\ndata\n\ndata:", []event{{"", "message", ""}, {"", "message", "\n"}}},
		{"one space is dropped", "data:test\n\ndata: test\n\n", []event{{"", "message", "test"}, {"", "message", "test"}}},
		{"line ends", "data: a\r\ndata: b\rdata: c\n\r\ndata: d\r\r", []event{{"", "message", "a\nb\nc"}, {"", "message", "d"}}},
		{"type without data", "event: x\n\ndata: y\n\n", []event{{"", "message", "y"}}},
		{"an id counts without data", "id: 7\n\ndata: y\n\n", []event{{"7", "message", "y"}}},
		{"an id with NUL does not", "id: 7\nid: 8\x00\ndata: y\n\n", []event{{"7", "message", "y"}}},
		{"byte order mark", "\uFEFFdata: a\n\n\uFEFFdata: b\n\n", []event{{"", "message", "a"}}},
		{"cut short", "id: 1\nevent: e\ndata: a\n\nid: 2\ndata: b\n", []event{{"1", "e", "a"}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			reader := &eventReader{r: bufio.NewReader(strings.NewReader(test.stream))}
			var got []event
			for {
				e, err := reader.next()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, e)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
		})
	}
	reader := &eventReader{r: bufio.NewReader(strings.NewReader("data: \xff\n\n"))}
	if e, err := reader.next(); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("invalid UTF-8 gave %+v, %v; want an error", e, err)
	}
}
