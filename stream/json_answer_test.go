package stream

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/labstack/echo/v4"

	"herald/consumer"
	"herald/consumer/batch"
)

func TestReadAccept(t *testing.T) {
	for accept, want := range map[string]answerFormat{
		"":                                    eventStream,
		"*/*":                                 eventStream,
		"text/event-stream":                   eventStream,
		"image/png":                           eventStream,
		"application/*":                       eventStream,
		"application/json":                    jsonObject,
		"Application/JSON; charset=utf-8":     jsonObject,
		"application/x-ndjson":                jsonLines,
		"application/json, text/plain, */*":   jsonObject, // axios, Angular
		"application/json, */*;q=0.5":         jsonObject,
		"application/json;q=0.5, */*":         eventStream,
		"application/json, text/event-stream": eventStream,
		"text/event-stream;q=0.9, application/json": jsonObject,
		"text/event-stream, application/json;q=0.9": eventStream,
		"application/json, application/x-ndjson":    jsonObject,
		"application/x-ndjson, application/json":    jsonLines,
		"application/json;q=0":                      eventStream,
		"application/json;q=much":                   eventStream,
		"application/json;;;q=":                     eventStream,
		"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8": eventStream, // a browser that is led there
		"text/html,application/json":     eventStream,
		"text/html;q=0,application/json": jsonObject,
	} {
		if got := readAccept(strings.Split(accept, "|")); got != want {
			t.Errorf("%q: format %d, want %d", accept, got, want)
		}
	}
	if got := readAccept([]string{"text/plain;q=0.5", "application/json"}); got != jsonObject {
		t.Errorf("two headers: format %d", got)
	}
}

// jsonEvent is an event of an answer in JSON, and an answer's end.
type jsonEvent struct {
	ID, Type string
	Data     *string
	Time     int64
	Key      string
	Pos      any // of a record: a text, of a checkpoint: an object
	Headers  map[string]string
	Live     bool
}

type jsonDocument struct {
	Events      []jsonEvent
	LastEventID string
	Live        bool
	Pos         map[string]int64
	End         string
}

// TestJSONAnswerAtEveryCut translates an event stream that arrives in two pieces, cut at every byte. The translation
// must not depend on the cut, and have each event.
func TestJSONAnswerAtEveryCut(t *testing.T) {
	p, hub := consumer.Partition{Topic: "shared", ID: 1}, NewHub("event-type", nil)
	hub.headers = []string{"trace"}
	const all = showEnvelope | showFields
	text := append(appendOpening(nil, 1000), "id: 1~a\nevent: checkpoint\ndata: {}\n\n:\n"...)
	for i, value := range []string{"plain", "two\nlines", `{"a":"b"}`, "", "\u2028 and \x00 and \xff"} {
		r := &consumer.Record{Record: batch.Record{Offset: int64(i), Key: []byte("k\n\"" + value), Value: []byte(value), Headers: []batch.Header{
			{Key: "event-type", Value: []byte(`"type"`)}, {Key: "trace", Value: []byte("x\ny")},
		}}}
		text = append(text, fmt.Sprintf("id: 1~a.1-%d\n", i)...)
		text, _ = hub.appendRecord(text, all, p, hub.eventTypeOf(r), r)
	}
	tombstone := &consumer.Record{Record: batch.Record{Offset: 9}}
	text, _ = hub.appendRecord(append(text, "id: 1~a.1-9\n"...), all, p, hub.eventTypeOf(tombstone), tombstone)
	text = appendOwn(append(text, ":\nid: 1~a.1-20\n"...), TypeGap, gapData{"shared", &gapRange{1, 10, 21}, consumer.GapRetention})
	text = appendOwn(append(text, "id: 1~a.1-20\n"...), TypeCheckpoint, checkpointData{Live: true, Pos: map[string]int64{"shared-1": 20}})

	for _, lines := range []bool{false, true} {
		whole := newJSONAnswer(nil, lines, "before").translated(text)
		for cut := range text {
			if got := newJSONAnswer(nil, lines, "before").translated(text[:cut], text[cut:]); got != whole {
				t.Fatalf("lines %v, cut at %d:\n%s\nwant\n%s", lines, cut, got, whole)
			}
		}
		got := readJSON(t, lines, whole)
		var values []string
		for _, e := range got.Events {
			value := "null"
			if e.Data != nil {
				value = *e.Data
			}
			values = append(values, e.Type+" "+value)
		}
		want := []string{`"type" plain`, "\"type\" two\nlines", `"type" {"a":"b"}`, `"type" `, "\"type\" \u2028 and \x00 and \uFFFD", "delete null", `gap {"source":"shared","partition":1,"from":10,"to":21,"reason":"retention"}`}
		if diff := cmp.Diff(want, values); diff != "" {
			t.Error(diff)
		}
		if e := got.Events[1]; e.Pos != "shared-1@1" || e.Key != "k\n\"two\nlines" || e.Headers["trace"] != "x\ny" || e.ID != "1~a.1-1" {
			t.Errorf("lines %v: the second event is %+v", lines, e)
		}
		if got.LastEventID != "1~a.1-20" || !got.Live || got.Pos["shared-1"] != 20 || got.End != "" {
			t.Errorf("lines %v: the end is %+v", lines, got)
		}
	}
}

// translated returns the answer to an event stream that arrives in pieces.
func (a *jsonAnswer) translated(pieces ...[]byte) string {
	var b []byte
	for _, piece := range pieces {
		b = append(b, a.translate(piece)...)
	}
	return string(a.appendEnd(b))
}

// readJSON reads an answer as a client does.
func readJSON(t *testing.T, lines bool, text string) (got jsonDocument) {
	t.Helper()
	if !lines {
		if err := json.Unmarshal([]byte(text), &got); err != nil || !strings.HasSuffix(text, "}\n") {
			t.Fatalf("%v: %s", err, text)
		}
		return got
	}
	for line := range strings.Lines(text) {
		var e jsonEvent
		if line == "\n" {
			continue
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		switch e.Type {
		case TypeCheckpoint:
			got.LastEventID, got.Live = e.ID, e.Live
			var end struct{ Pos map[string]int64 }
			if err := json.Unmarshal([]byte(line), &end); err != nil {
				t.Fatal(err)
			}
			got.Pos = end.Pos
		case TypeEnd:
			got.End = *e.Data
		default:
			got.Events = append(got.Events, e)
		}
	}
	return got
}

// TestJSONEnds ends polls early. The answer is complete, and says why.
func TestJSONEnds(t *testing.T) {
	text := appendOpening(nil, 1000)
	for _, begun := range []bool{false, true} {
		if begun {
			text = append(text, "id: 1~a\nevent: checkpoint\ndata: {}\n\n"...)
		} else {
			text = append(text, "id: before\n"...)
		}
		got := newJSONAnswer(nil, false, "before").translated(appendOwn(bytes.Clone(text), TypeEnd, endData{ErrDraining}))
		want := map[bool]string{false: `{"events":[],"lastEventId":"before","live":false,"end":"draining"}`, true: `{"events":[],"lastEventId":"1~a","live":false,"end":"draining"}`}[begun]
		if got != want+"\n" {
			t.Errorf("got %s, want %s", got, want)
		}
		got = newJSONAnswer(nil, true, "before").translated(appendOwn(bytes.Clone(text), TypeEnd, endData{ErrDraining}))
		if !strings.HasSuffix(got, "\"live\":false}\n{\"type\":\"end\",\"data\":\"{\\\"reason\\\":\\\"draining\\\"}\"}\n") {
			t.Errorf("got %s", got)
		}
	}
	if got := newJSONAnswer(nil, false, "").translated(); got != `{"events":[],"lastEventId":"","live":false}`+"\n" {
		t.Errorf("nothing at all: %s", got)
	}
}

// TestPollsForJSONAreExact polls for JSON while records arrive, with answers that are cut. The client throws a part of
// an answer away and asks again. Each record must come once and in order, also from the delivered positions.
func TestPollsForJSONAreExact(t *testing.T) {
	s := serveWith(t, Config{}, (*httptest.Server).Start)
	const count = 90
	for name, test := range map[string]struct{ accept, query string }{
		"object":          {"application/json", "&wait=50ms"},
		"a few":           {"application/json", "&wait=50ms&limit=4"},
		"lines":           {"application/x-ndjson", "&wait=50ms&limit=7"},
		"since delivered": {"application/json", "&since=delivered&limit=5"},
	} {
		t.Run(name, func(t *testing.T) {
			random, lastID := rand.New(rand.NewPCG(1, 1)), ""
			if name != "since delivered" {
				lastID = getJSON(t, s.url+"alice&wait=0", "application/json", "", -1).LastEventID
			}
			var want, got []string
			for i := range count {
				put(t, s.producer, "own.alice", "", fmt.Sprint(name, " ", i))
				want = append(want, fmt.Sprint(name, " ", i))
				for poll := i%5 == 0 || i == count-1; poll; poll = i == count-1 && len(got) < count {
					cut := -1
					if lastID != "" && random.IntN(2) == 0 { // a client without an id has nothing to come back with
						cut = random.IntN(400)
					}
					answer := getJSON(t, s.url+"alice"+test.query, test.accept, lastID, cut)
					if answer == nil {
						continue
					}
					lastID = answer.LastEventID
					for _, e := range answer.Events {
						if strings.HasPrefix(*e.Data, name+" ") {
							got = append(got, *e.Data)
						}
					}
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// getJSON returns the answer to a poll; nil if it was cut.
func getJSON(t *testing.T, url, accept, lastID string, cut int) *jsonDocument {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", accept)
	req.Header.Set("Last-Event-ID", lastID)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != accept {
		t.Fatalf("%s: %s, %v", url, res.Status, res.Header)
	}
	body := io.Reader(res.Body)
	if cut >= 0 {
		body = io.LimitReader(body, int64(cut))
	}
	text, err := io.ReadAll(body)
	if len(text) == cut {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	got := readJSON(t, accept == "application/x-ndjson", string(text))
	return &got
}

// TestWholeAnswersAreReportedAtTheirEnd sends a record of the user's own topic in a JSON object. Kafka learns of the
// delivery when the answer is complete, because the client throws away a part.
func TestWholeAnswersAreReportedAtTheirEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, format := range []answerFormat{eventStream, jsonLines, jsonObject} {
			hub, kafka, p := NewHub("event-type", nil), new(deafKafka), consumer.Partition{Topic: "own"}
			kafka.joins = true
			hub.Begin(p, [16]byte{1}, 0)
			s := newStream(t, streamOptions{hub: hub, kafka: kafka, out: new(partOutput), inline: true})
			s.writer.poll = newPoll(streamRequest{format: format, wait: time.Minute})
			s.start(streamRequest{})
			hub.Deliver(p, []consumer.Record{{Record: batch.Record{Offset: 0, Value: []byte("v")}, User: []byte("alice")}}, 1)
			_, _ = s.gather()
			if err := s.writer.flush(); err != nil {
				t.Fatal(err)
			}
			early := map[answerFormat]int64{eventStream: 1, jsonLines: 1}[format]
			if kafka.delivered != early {
				t.Errorf("format %d: before the end, Kafka knows of records delivered up to %d, want %d", format, kafka.delivered, early)
			}
			if s.serveSlow(); kafka.delivered != 1 {
				t.Errorf("format %d: at the end, Kafka knows of records delivered up to %d, want 1", format, kafka.delivered)
			}
		}
	})
}

// TestRefusedJSON refuses polls for JSON. They get a status, when to come back, and the reason for the server's error.
func TestRefusedJSON(t *testing.T) {
	refusals := make(chan error, 1)
	s := serveWith(t, Config{Admission: Admission{Streams: 1}, Viewer: func(c echo.Context) (Viewer, error) {
		if c.QueryParam("user") == "bob" {
			return Viewer{}, ErrUnchecked
		}
		return Viewer{User: c.QueryParam("user")}, nil
	}}, (*httptest.Server).Start, func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			err := next(c)
			if err != nil {
				refusals <- err
			}
			return err
		}
	})
	open(t, s.url+"alice", "").next()
	for user, want := range map[string]EndError{"carol": ErrBusy, "bob": ErrUnchecked} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+user, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept", "application/json")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		refused := <-refusals
		if later := res.Header.Get("Retry-After"); res.StatusCode != http.StatusServiceUnavailable || later < "5" && len(later) == 1 || !strings.Contains(refused.Error(), string(want)) {
			t.Errorf("%s: %s, Retry-After %q, error %v, want %s", user, res.Status, later, refused, want)
		}
	}
}

// TestLargeEventsAreNotCopiedForJSON sends events whose values, or keys, are large. The answer is the same as if each byte
// was translated, but it has the event's own bytes: very many polls may have to write the event.
func TestLargeEventsAreNotCopiedForJSON(t *testing.T) {
	p, hub, long := consumer.Partition{Topic: "shared"}, NewHub("event-type", nil), strings.Repeat("x", 2*largeValue)
	for name, record := range map[string]batch.Record{
		"value":                  {Value: []byte(long)},
		"value of a type":        {Value: []byte(long), Headers: []batch.Header{{Key: "event-type", Value: []byte("data: {")}}},
		"key":                    {Value: []byte("v"), Key: []byte(long)},
		"key of a type":          {Value: []byte("v"), Key: []byte(long), Headers: []batch.Header{{Key: "event-type", Value: []byte("data: {")}}},
		"both":                   {Value: []byte(long), Key: []byte(long)},
		"tombstone with the key": {Key: []byte(long)},
	} {
		for _, lines := range []bool{false, true} {
			r := &consumer.Record{Record: record}
			begin := append(appendOpening(nil, 1000), "id: 1~a\n"...)
			begin, event := hub.appendRecord(begin, showEnvelope|showKey, p, hub.eventTypeOf(r), r)
			end := appendOwn([]byte("id: 1~b\n"), TypeCheckpoint, checkpointData{Live: true})
			want := newJSONAnswer(nil, lines, "").translated(begin, event.text, begin, event.text, end)

			recorder := httptest.NewRecorder()
			a := newJSONAnswer(newResponse(recorder, time.Minute, hub.metrics), lines, "")
			for range 2 {
				rest, _ := a.send(append(make([]byte, headroom), begin...))
				if err := a.finish(rest); err != nil {
					t.Fatal(err)
				}
				rest, _ = a.sendLarge(event)
				if i := bytes.Index(event.text, rest); i < 0 || len(rest) < len(long) || &rest[0] != &event.text[i] {
					t.Errorf("%s, lines %v: %d bytes are not the event's own", name, lines, len(rest))
				}
				if err := a.finish(rest); err != nil {
					t.Fatal(err)
				}
			}
			rest, _ := a.send(append(make([]byte, headroom), end...))
			if err := a.finish(rest); err != nil || !a.close(true) {
				t.Fatalf("the answer did not end: %v", err)
			}
			if got := recorder.Body.String(); got != want {
				t.Errorf("%s, lines %v: the answer has %d bytes, want %d", name, lines, len(got), len(want))
			}
			readJSON(t, lines, want)
		}
	}
}

// brokenWriter is a response that fails from the write of some text on.
type brokenWriter struct {
	*httptest.ResponseRecorder
	from string
}

func (w brokenWriter) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte(w.from)) {
		return 0, io.ErrClosedPipe
	}
	return w.ResponseRecorder.Write(b)
}

// TestAnswersWithoutTheirEndAreNotReported cuts an answer before its end, which a client throws away. Kafka must not learn
// of a delivery.
func TestAnswersWithoutTheirEndAreNotReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for from, want := range map[string]int64{"lastEventId": 0, "no such text": 1} {
			hub, kafka, p := NewHub("event-type", nil), new(deafKafka), consumer.Partition{Topic: "own"}
			kafka.joins = true
			hub.Begin(p, [16]byte{1}, 0)
			out := newJSONAnswer(newResponse(brokenWriter{httptest.NewRecorder(), from}, time.Minute, hub.metrics), false, "")
			s := newStream(t, streamOptions{hub: hub, kafka: kafka, out: out, inline: true})
			s.setShape(showEnvelope)
			s.writer.poll = newPoll(streamRequest{format: jsonObject, wait: time.Minute})
			s.start(streamRequest{})
			hub.Deliver(p, []consumer.Record{{Record: batch.Record{Offset: 0, Value: []byte("v")}, User: []byte("alice")}}, 1)
			if s.serveSlow(); kafka.delivered != want {
				t.Errorf("the write of %q fails: Kafka knows of records delivered up to %d, want %d", from, kafka.delivered, want)
			}
		}
	})
}
