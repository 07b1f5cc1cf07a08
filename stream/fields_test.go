package stream

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http/httputil"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"herald/consumer"
	"herald/consumer/batch"
)

// fieldsHub returns a hub whose streams may show two headers, and in which the fields and values from a size on are
// large.
func fieldsHub(large int) *Hub {
	h := NewHub("event-type", nil, "trace", "content-type")
	h.larges.least = large
	return h
}

// inShape returns all lines of a record's event in a shape: the lines of the stream itself, and the lines that streams
// share.
func inShape(t *testing.T, h *Hub, s shape, p consumer.Partition, r *consumer.Record) []byte {
	t.Helper()
	lines, large := h.appendRecord(nil, s, p, h.eventTypeOf(r), r)
	if large == nil {
		return lines
	}
	text, err := io.ReadAll(httputil.NewChunkedReader(io.MultiReader(bytes.NewReader(large.chunk), strings.NewReader("0\r\n\r\n"))))
	if err != nil || !bytes.Equal(text, large.text) {
		t.Fatalf("the chunk %q is not of %q: %v", large.chunk, large.text, err)
	}
	return append(lines, text...)
}

// onOneLine returns a text as the protocol says that it arrives in a line of its own.
func onOneLine(text []byte) string {
	valid := strings.ToValidUTF8(string(text), "\uFFFD")
	return strings.NewReplacer("\r", "\uFFFD", "\n", "\uFFFD", "\x00", "\uFFFD").Replace(valid)
}

// wantFields returns the fields that a client must get.
func wantFields(s shape, p consumer.Partition, r *consumer.Record) map[string]string {
	var want map[string]string
	add := func(name, value string) {
		if want == nil {
			want = make(map[string]string)
		}
		want[name] = value
	}
	if ms := r.Time.UnixMilli(); s.has(showTime) && ms >= 0 {
		add("time", strconv.FormatInt(ms, 10))
	}
	if s.has(showKey) && r.Key != nil {
		add("key", onOneLine(r.Key))
	}
	if s.has(showPos) {
		add("pos", fmt.Sprintf("%s-%d@%d", p.Topic, p.ID, r.Offset))
	}
	if trace, _ := r.Header("trace"); s.has(showHeaders) && trace != nil {
		add("header.trace", onOneLine(trace))
	}
	return want
}

// checkEnvelope checks the data of an event in the format JSON.
func checkEnvelope(t *testing.T, data string, s shape, p consumer.Partition, r *consumer.Record) {
	t.Helper()
	if strings.ContainsAny(data, "\u0085\u2028\u2029") {
		t.Errorf("%q has a line break for some clients", data)
	}
	type envelope struct {
		Data, Key, Pos *string
		Time           *int64
		Headers        map[string]string
	}
	var got envelope
	decoder := json.NewDecoder(strings.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&got); err != nil || decoder.More() {
		t.Fatalf("%q: %v", data, err)
	}
	exactly := func(text []byte) *string {
		if text == nil {
			return nil
		}
		return new(strings.ToValidUTF8(string(text), "\uFFFD"))
	}
	want := envelope{Data: exactly(r.Value)}
	if s.has(showKey) {
		want.Key = exactly(r.Key)
	}
	if s.has(showPos) {
		want.Pos = new(fmt.Sprintf("%s-%d@%d", p.Topic, p.ID, r.Offset))
	}
	if ms := r.Time.UnixMilli(); s.has(showTime) && ms >= 0 {
		want.Time = &ms
	}
	if s.has(showHeaders) {
		want.Headers = map[string]string{}
		if trace, _ := r.Header("trace"); trace != nil {
			want.Headers["trace"] = *exactly(trace)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%q: %s", data, diff)
	}
}

// hubsOf returns hubs in which events are large from different sizes on; in the first one, none is.
func hubsOf() []*Hub { return []*Hub{fieldsHub(math.MaxInt), fieldsHub(0), fieldsHub(1), fieldsHub(3)} }

// checkShape checks that a client gets exactly one event of the record between two others, with the fields that it
// asked for, and the same bytes whichever part of them streams share.
func checkShape(t *testing.T, hubs []*Hub, s shape, r *consumer.Record) {
	t.Helper()
	p := consumer.Partition{Topic: "notifications", ID: 2}
	lines := inShape(t, hubs[0], s, p, r)
	if !utf8.Valid(lines) {
		t.Fatalf("no UTF-8: %q", lines)
	}
	for _, h := range hubs[1:] {
		if shared := inShape(t, h, s, p, r); !bytes.Equal(lines, shared) {
			t.Fatalf("large from %d bytes on, the event is\n%q, otherwise\n%q", h.larges.least, shared, lines)
		}
	}
	stream := appendOwn([]byte("id: before\n"), TypeCheckpoint, checkpointData{})
	stream = append(append(stream, "id: 1~x\n"...), lines...)
	stream = appendOwn(append(stream, "id: after\n"...), TypeCheckpoint, checkpointData{})
	got := parse(stream)
	if len(got.events) != 3 || len(got.retry) > 0 {
		t.Fatalf("%d events, want 3, retry %q\n%q", len(got.events), got.retry, stream)
	}
	kind, data := "message", normalised(r.Value)
	if r.Value == nil {
		kind = TypeDelete
	}
	fields := wantFields(s, p, r)
	if s.has(showEnvelope) {
		data, fields = got.events[1].data, nil
		checkEnvelope(t, data, s, p, r)
	}
	want := []event{{"before", "checkpoint", "{}"}, {"1~x", kind, data}, {"after", "checkpoint", "{}"}}
	if diff := cmp.Diff(want, got.events, cmp.AllowUnexported(event{})); diff != "" {
		t.Fatalf("%s\n%q", diff, stream)
	}
	if diff := cmp.Diff([]map[string]string{nil, fields, nil}, got.fields); diff != "" {
		t.Fatalf("%s\n%q", diff, stream)
	}
}

// FuzzFields checks that each event stays whole and separate, and has the fields that it should, for keys, headers
// and values of any bytes, in each shape.
func FuzzFields(f *testing.F) {
	for i, text := range []string{
		"", "alice", " leading space", "a: b", ":", "a\nid: 9", "a\rid: 9", "a\r\n\r\nevent: end\r\ndata: {}\r\n\r\n", "\n", "\r", "\n\n", "a\x00b", "\xff",
		"a\xff\xfe\nb", "\xe2\x82\r\n", "\xef\xbb\xbfa", "\u2028\u2029\u0085\v\f", `"},"pos":"x`, `\`, "</script>", "\x7f\x1f", "😀", strings.Repeat("k\n", 100),
	} {
		f.Add([]byte(text), []byte("trace"), []byte("value"), int64(i), uint8(0))
		f.Add([]byte("key"), []byte(text), []byte(text), int64(-i), uint8(i))
	}
	f.Add([]byte(nil), []byte(nil), []byte(nil), int64(math.MinInt64), uint8(7))
	f.Add([]byte("k"), []byte("v"), []byte("x"), int64(math.MaxInt64), uint8(0))
	hubs := hubsOf()
	f.Fuzz(func(t *testing.T, key, header, value []byte, ms int64, null uint8) {
		orNull := func(bit uint8, text []byte) []byte {
			if null&bit != 0 {
				return nil
			}
			return append([]byte{}, text...)
		}
		r := &consumer.Record{Record: batch.Record{Offset: 41, Time: time.UnixMilli(ms), Key: orNull(1, key), Value: orNull(2, value), Headers: []consumer.Header{
			{Key: "trace", Value: []byte("an earlier one does not count")}, {Key: "trace", Value: orNull(4, header)}, {Key: "secret", Value: header},
		}}}
		for s := range 2 * showEnvelope {
			if s.wantsRecord(r) {
				checkShape(t, hubs, s, r)
			}
		}
	})
}

// TestFieldsAsDocumented has the lines and the envelope of PROTOCOL.md.
func TestFieldsAsDocumented(t *testing.T) {
	h, p := fieldsHub(math.MaxInt), consumer.Partition{Topic: "notifications", ID: 2}
	r := &consumer.Record{Record: batch.Record{Offset: 41, Time: time.UnixMilli(1764400000000), Key: []byte("alice"), Value: []byte("first\r\nsecond"), Headers: []consumer.Header{
		{Key: "event-type", Value: []byte("news")}, {Key: "trace", Value: []byte("a\nb")}, {Key: "secret", Value: []byte("x")},
	}}}
	tombstone := &consumer.Record{Record: batch.Record{Offset: 42, Key: []byte("alice"), Headers: r.Headers}}
	for _, test := range []struct {
		fields, format string
		r              *consumer.Record
		want           string
	}{
		{"", "", r, "event: news\ndata: first\ndata: second\n\n"},
		{"time,key,pos,headers", "", r, "time: 1764400000000\nkey: alice\npos: notifications-2@41\nheader.trace: a\uFFFDb\nevent: news\ndata: first\ndata: second\n\n"},
		{"pos", "", tombstone, "pos: notifications-2@42\nevent: delete\ndata: \n\n"},
		{"", "json", r, `event: news` + "\n" + `data: {"data":"first\r\nsecond"}` + "\n\n"},
		{"headers,pos,key,time", "json", r, `event: news` + "\n" + `data: {"time":1764400000000,"key":"alice","pos":"notifications-2@41","headers":{"trace":"a\nb"},"data":"first\r\nsecond"}` + "\n\n"},
		{"key", "json", tombstone, `event: delete` + "\n" + `data: {"key":"alice","data":null}` + "\n\n"},
	} {
		query, err := ParseQuery("fields=" + test.fields + "&format=" + test.format)
		if err != nil {
			t.Fatal(err)
		}
		req, err := readRequest(nil, query, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(test.want, string(inShape(t, h, req.shape, p, test.r))); diff != "" {
			t.Errorf("fields=%s format=%s (-want +got):\n%s", test.fields, test.format, diff)
		}
	}
}
