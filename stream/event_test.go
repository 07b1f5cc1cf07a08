package stream

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http/httputil"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"herald/consumer"
	"herald/consumer/batch"
)

// parsed is a stream as a client understands it.
type parsed struct {
	events []event
	fields []map[string]string // for each event, the last value of each field that the standard does not know
	retry  []string            // the values of the retry fields
}

// parse reads a whole stream by the steps of WHATWG HTML 9.2.6, one character at a time. It shares no code
// with the encoder under test, not even the definition of a line.
func parse(stream []byte) parsed {
	text := []rune(string(stream)) // "UTF-8 decode": invalid bytes become U+FFFD
	if len(text) > 0 && text[0] == '\uFEFF' {
		text = text[1:]
	}
	var (
		out                parsed
		data, kind, lastID string
		line               []rune
		others             map[string]string
	)
	field := func(name, value string) {
		switch name {
		case "event":
			kind = value
		case "data":
			data += value + "\n"
		case "id":
			if !strings.ContainsRune(value, 0) {
				lastID = value
			}
		case "retry":
			out.retry = append(out.retry, value)
		default:
			if others == nil {
				others = make(map[string]string)
			}
			others[name] = value
		}
	}
	endOfLine := func() {
		colon := slices.Index(line, ':')
		switch {
		case len(line) == 0:
			if data != "" {
				if kind == "" {
					kind = "message"
				}
				out.events = append(out.events, event{lastID, kind, data[:len(data)-1]})
				out.fields = append(out.fields, others)
			}
			data, kind, others = "", "", nil
		case colon == 0: // a comment
		case colon > 0:
			value := line[colon+1:]
			if len(value) > 0 && value[0] == ' ' {
				value = value[1:]
			}
			field(string(line[:colon]), string(value))
		default:
			field(string(line), "")
		}
		line = nil
	}
	for i, c := range text {
		switch {
		case c == '\n' && i > 0 && text[i-1] == '\r': // the CR before has ended the line
		case c == '\r' || c == '\n':
			endOfLine()
		default:
			line = append(line, c)
		}
	}
	return out // the standard drops an incomplete event at the end
}

// normalised returns the value in the form in which the protocol says that it arrives. The protocol does not
// say how many U+FFFD replace several invalid bytes in a row; Herald writes one.
func normalised(value []byte) string {
	var b strings.Builder
	bad := false
	for len(value) > 0 {
		r, size := utf8.DecodeRune(value)
		wasBad := bad
		bad = r == utf8.RuneError && size == 1
		if !bad || !wasBad {
			b.WriteRune(r)
		}
		value = value[size:]
	}
	return strings.ReplaceAll(strings.ReplaceAll(b.String(), "\r\n", "\n"), "\r", "\n")
}

// arrivesAs returns the event type that the protocol promises for the value of the event-type header.
func arrivesAs(header []byte) string {
	switch text := string(header); {
	case slices.Contains([]string{"", "checkpoint", "gap", "end", "open", "error"}, text),
		strings.ContainsAny(text, "\r\n\x00"), !utf8.Valid(header), len(text) > 128:
		return "message"
	default:
		return text
	}
}

// receivedGap is the data of a gap event as a client reads it.
type receivedGap struct {
	Source    string
	Partition int32
	From, To  int64
	Reason    consumer.GapReason
}

// framed returns the last part of a stream: a record, as a small or as a large event, and a gap between two
// checkpoints. If an event is torn apart or takes lines of its neighbour, a checkpoint or the gap shows it.
func framed(r *consumer.Record, topic string, large bool) ([]byte, error) {
	const id = "1~abcdef0123.0-7"
	b := appendOwn([]byte("id: before\n"), TypeCheckpoint, checkpointData{})
	b = append(b, "id: "+id+"\n"...) // as the writer writes it
	if eventType := NewHub("event-type", nil).eventTypeOf(r); large {
		shared := newLarges()
		shared.least = 0
		e := shared.shareEvent(nil, 0, eventType, r.Value)
		text, err := io.ReadAll(httputil.NewChunkedReader(io.MultiReader(bytes.NewReader(e.chunk), strings.NewReader("0\r\n\r\n"))))
		if err != nil || !bytes.Equal(text, e.text) {
			return nil, fmt.Errorf("the chunk %q is not of %q: %w", e.chunk, e.text, err)
		}
		b = append(b, text...)
	} else {
		b = appendRecord(b, eventType, r.Value)
	}
	b = appendOwn(b, TypeGap, gapData{Source: topic, gapRange: &gapRange{From: 1, To: math.MaxInt64}, Reason: consumer.GapRetention})
	return appendOwn(append(b, "id: after\n"...), TypeCheckpoint, checkpointData{}), nil
}

// checkFraming checks that the stream has exactly the events that were written, with any content.
func checkFraming(t *testing.T, r *consumer.Record, kind, topic string) {
	t.Helper()
	for _, large := range []bool{false, true} {
		stream, err := framed(r, topic, large)
		if err != nil {
			t.Fatal(err)
		}
		checkFramed(t, stream, r, kind, topic)
	}
}

func checkFramed(t *testing.T, stream []byte, r *consumer.Record, kind, topic string) {
	t.Helper()
	if !utf8.Valid(stream) { // parse would replace the bytes by U+FFFD
		t.Fatalf("no UTF-8: %q", stream)
	}
	got := parse(stream)
	if len(got.retry) > 0 || len(got.events) != 4 {
		t.Fatalf("%d events, want 4; retry %q\n%q", len(got.events), got.retry, stream)
	}
	var gap receivedGap
	if err := json.Unmarshal([]byte(got.events[2].data), &gap); err != nil {
		t.Fatalf("gap %q: %v", got.events[2].data, err)
	}
	if utf8.ValidString(topic) && gap.Source != topic || gap.From != 1 || gap.To != math.MaxInt64 {
		t.Fatalf("gap %+v of topic %q", gap, topic)
	}
	want := []event{
		{"before", "checkpoint", "{}"},
		{"1~abcdef0123.0-7", kind, normalised(r.Value)},
		{"1~abcdef0123.0-7", "gap", got.events[2].data},
		{"after", "checkpoint", "{}"},
	}
	if diff := cmp.Diff(want, got.events, cmp.AllowUnexported(event{})); diff != "" {
		t.Fatalf("%s\n%q", diff, stream)
	}
}

// TestTypes covers each reason for refusing an event type, and the limits of valid types.
func TestTypes(t *testing.T) {
	for _, test := range []struct{ name, header, want string }{
		{"plain", "news", "news"},
		{"the default by name", "message", "message"},
		{"spaces and colons count", " a: b ", " a: b "},
		{"other scripts", "новости", "новости"},
		{"only spaces", "  ", "  "},
		{"longest", strings.Repeat("x", 128), strings.Repeat("x", 128)},
		{"too long", strings.Repeat("x", 129), "message"},
		{"empty", "", "message"},
		{"no UTF-8", "a\xff", "message"},
		{"NUL", "a\x00", "message"},
		{"CR", "a\rid: 9", "message"},
		{"LF", "a\nretry: 1", "message"},
		{"ours: checkpoint", "checkpoint", "message"},
		{"ours: gap", "gap", "message"},
		{"ours: end", "end", "message"},
		{"EventSource's: open", "open", "message"},
		{"EventSource's: error", "error", "message"},
		{"not quite ours", "Gap", "Gap"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := &consumer.Record{Record: batch.Record{Value: []byte("x"), Headers: []consumer.Header{{Key: "event-type", Value: []byte(test.header)}}}}
			checkFraming(t, r, test.want, "orders")
			if err := CheckType(test.header); (err == nil) != (test.want != "message") && test.header != "message" {
				t.Errorf("CheckType: %v", err)
			}
		})
	}
}

// TestTypeIsTheLastHeader checks that the last of several headers with one name counts, as in Kafka's own
// clients.
func TestTypeIsTheLastHeader(t *testing.T) {
	r := &consumer.Record{Record: batch.Record{Value: []byte("x"), Headers: []consumer.Header{
		{Key: "event-type", Value: []byte("first")}, {Key: "event-type", Value: []byte("last")}, {Key: "Event-Type", Value: []byte("other")},
	}}}
	checkFraming(t, r, "last", "orders")
	r.Headers = append(r.Headers, consumer.Header{Key: "event-type"})
	checkFraming(t, r, "message", "orders")
}

// FuzzFraming checks that each event stays whole and separate, for values, types and topics of any bytes.
func FuzzFraming(f *testing.F) {
	for _, value := range []string{
		"", "hello", " leading space", "a\nb", "a\r\nb", "a\rb", "\n", "\r", "\r\n", "\n\n", "\r\r\n\n", "a\r", "a\n\r\nb",
		"\nid: 9\n\n", "x\n\nevent: end\ndata: {}\n\n", "\rretry: 1\r\r", ":\n", "\xff", "a\xff\xfe\nb", "\xe2\x82\r\n", "\xef\xbb\xbfa", "a\x00b", "\u2028\u0085\v\f",
	} {
		f.Add([]byte(value), []byte("news"), []byte("other"), "orders")
		f.Add([]byte("x"), []byte(value), []byte(value), value)
	}
	for _, kind := range []string{"checkpoint", "gap", "end", "open", "error", "message", strings.Repeat("x", 129)} {
		f.Add([]byte("{}"), []byte(kind), []byte("event-type"), "orders")
	}
	f.Fuzz(func(t *testing.T, value, kind, other []byte, topic string) {
		if value == nil {
			value = []byte{} // a null value is a tombstone, which is not delivered
		}
		// Only the header with the configured name sets the type, at any place among the headers.
		headers := []consumer.Header{{Key: string(other), Value: value}, {Key: "event-type", Value: kind}, {Key: "event-type2", Value: other}}
		checkFraming(t, &consumer.Record{Record: batch.Record{Key: kind, Value: value, Headers: headers}, User: other}, arrivesAs(kind), topic)
		if string(other) != "event-type" {
			checkFraming(t, &consumer.Record{Record: batch.Record{Key: kind, Value: value, Headers: headers[:1]}}, "message", topic)
		}
	})
}

// TestCheckpointText compares the texts of checkpoints with the encoding of their data.
func TestCheckpointText(t *testing.T) {
	for _, data := range []checkpointData{{}, {Live: true}, {Heartbeat: 1}, {Live: true, Heartbeat: 1}, {Pos: map[string]int64{"t-0": -1}}} {
		if got, want := string(data.appendEvent(nil)), string(appendOwn(nil, TypeCheckpoint, data)); got != want {
			t.Errorf("%+v: %q, want %q", data, got, want)
		}
	}
}
