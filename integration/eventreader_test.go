package integration

import (
	"bufio"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

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
		t.Errorf("bytes that are no UTF-8 gave %+v, %v; want an error", e, err)
	}
}
