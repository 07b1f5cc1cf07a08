package tail

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// readAll returns the events of text, and the reader at its end.
func readAll(t *testing.T, r io.Reader, lastID string) ([]Event, *EventReader, error) {
	t.Helper()
	er := NewEventReader(r, lastID)
	var list []Event
	for {
		e, err := er.Next()
		if err != nil {
			return list, er, err
		}
		list = append(list, e)
	}
}

func TestEventStream(t *testing.T) {
	for _, test := range []struct {
		name, text string
		want       []Event
		lastID     string
		retry      time.Duration
	}{
		{name: "nothing"},
		{name: "one", text: "data: a\n\n", want: []Event{{"message", "", "a"}}},
		{name: "all fields", text: "event: news\nid: 7\nretry: 2500\ndata: a\n\n", want: []Event{{"news", "7", "a"}}, lastID: "7", retry: 2500 * time.Millisecond},
		{name: "CR LF", text: "data: a\r\ndata: b\r\n\r\n", want: []Event{{"message", "", "a\nb"}}},
		{name: "CR", text: "data: a\rdata: b\r\r", want: []Event{{"message", "", "a\nb"}}},
		{name: "all line ends mixed", text: "data: a\r\ndata: b\rdata: c\n\r\ndata: d\n\n", want: []Event{{"message", "", "a\nb\nc"}, {"message", "", "d"}}},
		{name: "byte order mark", text: bom + "data: a\n\n", want: []Event{{"message", "", "a"}}},
		{name: "second byte order mark", text: bom + bom + "data: a\n\ndata: b\n\n", want: []Event{{"message", "", "b"}}},
		{name: "byte order mark in the middle", text: "data: a\n" + bom + "data: b\n\n", want: []Event{{"message", "", "a"}}},
		{name: "only one space is cut", text: "data:a\n\ndata: a\n\ndata:  a\n\n", want: []Event{{"message", "", "a"}, {"message", "", "a"}, {"message", "", " a"}}},
		{name: "a colon in the value", text: "data: a:b\n\n", want: []Event{{"message", "", "a:b"}}},
		{name: "empty data", text: "data\n\ndata:\n\ndata\ndata\n\n", want: []Event{{"message", "", ""}, {"message", "", ""}, {"message", "", "\n"}}},
		{name: "comments", text: ": hello\ndata: a\n:\n\n:\n\n", want: []Event{{"message", "", "a"}}},
		{name: "unknown and misspelt fields", text: "Data: a\n data: b\ndata : c\nfoo: d\nfoo\n\n"},
		{name: "the last type counts", text: "event: a\nevent: b\ndata: x\n\n", want: []Event{{"b", "", "x"}}},
		{name: "a type does not outlive its block", text: "event: a\n\ndata: x\n\n", want: []Event{{"message", "", "x"}}},
		{name: "an id outlives its block", text: "id: 1\ndata: a\n\ndata: b\n\n", want: []Event{{"message", "1", "a"}, {"message", "1", "b"}}, lastID: "1"},
		{name: "an id without data", text: "id: 1\n\n", lastID: "1"},
		{name: "an empty id clears", text: "id: 1\ndata: a\n\nid\ndata: b\n\n", want: []Event{{"message", "1", "a"}, {"message", "", "b"}}},
		{name: "an id with NUL is no id", text: "id: 1\ndata: a\n\nid: 2\x003\ndata: b\n\n", want: []Event{{"message", "1", "a"}, {"message", "1", "b"}}, lastID: "1"},
		{name: "cut before the blank line", text: "id: 1\ndata: a\n\nid: 2\ndata: b\n", want: []Event{{"message", "1", "a"}}, lastID: "1"},
		{name: "cut in a line", text: "data: a\n\ndata: b", want: []Event{{"message", "", "a"}}},
		{name: "retry with a sign", text: "retry: 1000\nretry: -5\nretry: +5\nretry: 5s\nretry:\nretry: ٣\n\n", retry: time.Second},
		{name: "retry beyond all bounds", text: "retry: 99999999999999999999999999\n\n", retry: time.Hour},
		{name: "retry counts before its block ends", text: "retry: 7\n", retry: 7 * time.Millisecond},
		{name: "no UTF-8", text: "data: a\xffb\nevent: \xc3\n\n", want: []Event{{"\ufffd", "", "a\ufffdb"}}},
		{name: "NUL in data", text: "data: a\x00b\n\n", want: []Event{{"message", "", "a\x00b"}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			for name, r := range map[string]io.Reader{
				"at once":     strings.NewReader(test.text),
				"byte a time": iotest.OneByteReader(strings.NewReader(test.text)),
			} {
				got, er, err := readAll(t, r, "")
				if !errors.Is(err, io.EOF) {
					t.Fatalf("%s: %v", name, err)
				}
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Errorf("%s: %s", name, diff)
				}
				if er.lastID != test.lastID || er.Retry() != test.retry {
					t.Errorf("%s: last id %q, retry %v; want %q, %v", name, er.lastID, er.Retry(), test.lastID, test.retry)
				}
			}
		})
	}
}

func TestResumedStreamKeepsItsID(t *testing.T) {
	got, er, _ := readAll(t, strings.NewReader("data: a\n\nid: 6\ndata: cut"), "5")
	if diff := cmp.Diff([]Event{{"message", "5", "a"}}, got); diff != "" || er.lastID != "5" {
		t.Errorf("%s, last id %q", diff, er.lastID)
	}
}

// TestLineEndingInCRDoesNotWait reads from a stream that sends a CR and then nothing more.
func TestLineEndingInCRDoesNotWait(t *testing.T) {
	r, w := io.Pipe()
	go func() { _, _ = io.WriteString(w, "data: a\r\r") }()
	e, err := NewEventReader(r, "").Next()
	if err != nil || e.Data != "a" {
		t.Errorf("%+v, %v", e, err)
	}
	_ = r.Close()
}

func TestEventsAreBounded(t *testing.T) {
	endless := func(text string) io.Reader { return &repeat{text: text} }
	for name, r := range map[string]io.Reader{
		"a line without end":    endless("x"),
		"an event without end":  endless("data: " + "x" + "\n"),
		"a comment without end": io.MultiReader(strings.NewReader(":"), endless("x")),
	} {
		er := NewEventReader(r, "")
		er.blocks.limit = 1 << 10
		if _, err := er.Next(); !errors.Is(err, ErrEventTooLarge) {
			t.Errorf("%s: %v", name, err)
		}
	}
	big := strings.Repeat("x", 1<<20)
	got, _, _ := readAll(t, strings.NewReader("data: "+big+"\n\n"), "")
	if len(got) != 1 || got[0].Data != big {
		t.Error("a value of 1 MiB does not arrive")
	}
}

// repeat is an endless stream of the same text.
type repeat struct {
	text string
	at   int
}

func (r *repeat) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = r.text[r.at]
		r.at = (r.at + 1) % len(r.text)
	}
	return len(p), nil
}

// FuzzEventStream checks that the events do not depend on how the stream arrives, and that what
// comes out keeps to the format.
func FuzzEventStream(f *testing.F) {
	f.Add("event: a\r\nid: 1\rretry: 5\ndata: x\n\n")
	f.Add(bom + "data\n\n: c\nid\x00: 2\ndata: y\r\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		got, er, err := readAll(t, strings.NewReader(text), "")
		slow, slowEnd, slowErr := readAll(t, iotest.OneByteReader(strings.NewReader(text)), "")
		if diff := cmp.Diff(got, slow); diff != "" || !errors.Is(err, io.EOF) || !errors.Is(slowErr, io.EOF) || er.lastID != slowEnd.lastID {
			t.Fatalf("%v, %v: %s", err, slowErr, diff)
		}
		// A stream with other line ends has the same events.
		lf := strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\r", "\n")
		if same, _, _ := readAll(t, strings.NewReader(lf), ""); cmp.Diff(got, same) != "" {
			t.Fatal(cmp.Diff(got, same))
		}
		for _, e := range got {
			if e.Type == "" || strings.ContainsAny(e.Type+e.ID, "\r\n") || strings.Contains(e.Data, "\r") || strings.Contains(e.ID, "\x00") {
				t.Fatalf("%+v", e)
			}
		}
	})
}
