package stream

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"herald/consumer"
	"herald/consumer/batch"
)

const (
	tracedID   = "0af7651916cd43dd8448eb211c80319c"
	producerID = "b7ad6b7169203331"
)

// sampled is the header of a record that its producer traces.
var sampled = consumer.Header{Key: "traceparent", Value: []byte("00-" + tracedID + "-" + producerID + "-01")}

// newSpans returns a tracer and the spans that it has ended.
func newSpans(t *testing.T) (trace.Tracer, *tracetest.InMemoryExporter) {
	t.Helper()
	spans := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	return provider.Tracer("test"), spans
}

// withoutUser is [consumer.TopicTemplate] for the topics of alice.
func withoutUser(topic string) string { return strings.Replace(topic, "alice", "{user}", 1) }

// awaitSpans waits for that many spans, and for a moment in which no other one may come.
func awaitSpans(t *testing.T, spans *tracetest.InMemoryExporter, want int) tracetest.SpanStubs {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); len(spans.GetSpans()) < want && time.Now().Before(deadline); {
		time.Sleep(5 * time.Millisecond)
	}
	time.Sleep(20 * time.Millisecond)
	got := spans.GetSpans()
	if len(got) != want {
		t.Fatalf("%d spans, want %d: %+v", len(got), want, got)
	}
	spans.Reset()
	return got
}

// attributesOf returns a span's attributes as text.
func attributesOf(s tracetest.SpanStub) map[string]string {
	list := make(map[string]string)
	for _, a := range s.Attributes {
		list[string(a.Key)] = a.Value.String()
	}
	return list
}

// TestTracedRecords delivers traced records to open streams and polls. Each of them makes one span, with the producer's as its
// parent. A broadcast makes one span for all.
func TestTracedRecords(t *testing.T) {
	s := serveWith(t, Config{}, (*httptest.Server).Start)
	tracer, spans := newSpans(t)
	s.hub.TraceRecords(tracer, withoutUser)
	put(t, s.producer, "own.alice", "", "the topic exists")
	first, second, other := open(t, s.url+"alice", ""), open(t, s.url+"alice", ""), open(t, s.url+"bob", "")
	for _, c := range []*client{first, second, other} {
		for e := c.next(); !strings.Contains(e.data, `"live":true`); e = c.next() {
			t.Log("waits until replay has met live, after", e)
		}
	}
	put(t, s.producer, "shared", "alice", "not traced")
	for topic, test := range map[string]struct {
		value string
		want  int
		extra map[string]string
	}{
		"shared":    {value: "secret", want: 2},
		"all":       {value: "secret", want: 1, extra: map[string]string{"herald.streams": "3"}},
		"own.alice": {value: "secret", want: 2, extra: map[string]string{"messaging.destination.template": "own.{user}"}},
	} {
		key := "alice"
		before := time.Now()
		put(t, s.producer, topic, key, test.value, sampled)
		for _, span := range awaitSpans(t, spans, test.want) {
			got := attributesOf(span)
			partition, offset := got["messaging.destination.partition.id"], got["messaging.kafka.offset"]
			want := map[string]string{
				"messaging.system": "kafka", "messaging.operation.type": "process", "messaging.operation.name": "deliver",
				"messaging.destination.name": topic, "messaging.destination.partition.id": partition, "messaging.kafka.offset": offset,
				"messaging.message.body.size": strconv.Itoa(len(test.value)),
			}
			maps.Copy(want, test.extra)
			shown := withoutUser(topic)
			if shown != topic {
				delete(want, "messaging.destination.name")
			}
			if diff := cmp.Diff(want, got); diff != "" || partition == "" || offset == "" {
				t.Errorf("%s: attributes (-want +got):\n%s", topic, diff)
			}
			if span.Parent.SpanID().String() != producerID || span.SpanContext.TraceID().String() != tracedID || span.SpanKind != trace.SpanKindConsumer || span.Name != "deliver "+shown {
				t.Errorf("%s: span %+v", topic, span)
			}
			if span.StartTime.Before(before) || !span.EndTime.After(span.StartTime) {
				t.Errorf("%s: from %v to %v, produced after %v", topic, span.StartTime, span.EndTime, before)
			}
			if text := fmt.Sprintf("%+v", span); strings.Contains(text, "alice") || strings.Contains(text, "secret") {
				t.Errorf("the span has a user or a value: %s", text)
			}
		}
	}
}

// TestTracesOfAnswers delivers a traced record to each kind of answer.
func TestTracesOfAnswers(t *testing.T) {
	s := serveWith(t, Config{}, (*httptest.Server).Start)
	tracer, spans := newSpans(t)
	s.hub.TraceRecords(tracer, withoutUser)
	large := strings.Repeat("x", 200<<10)
	for name, test := range map[string]struct{ query, accept, value string }{
		"event stream":       {value: "v"},
		"large event":        {value: large},
		"poll":               {query: "&wait=1m", value: "v"},
		"JSON object":        {query: "&wait=1m", accept: "application/json", value: "v"},
		"large, JSON object": {query: "&wait=1m", accept: "application/json", value: large},
	} {
		t.Run(name, func(t *testing.T) {
			user := strings.NewReplacer(" ", "-", ",", "").Replace(name)
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+user+test.query, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Accept", test.accept)
			var reading sync.WaitGroup
			reading.Go(func() {
				res, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Error(err)
					return
				}
				defer res.Body.Close()
				head := make([]byte, 100)
				if n, err := res.Body.Read(head); n == 0 || res.StatusCode != http.StatusOK {
					t.Errorf("%s, %v: %s", res.Status, err, head[:n])
				}
				_, _ = io.Copy(io.Discard, res.Body) // until the test ends, or the poll
			})
			t.Cleanup(reading.Wait)
			awaitServed(t, s.hub, user, 1)
			put(t, s.producer, "shared", user, test.value, sampled)
			awaitSpans(t, spans, 1)
		})
	}
}

// awaitServed waits until the user has that many streams that have caught up and have nothing to do.
func awaitServed(t *testing.T, h *Hub, user string, want int) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); countServed(h, user) < want; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d streams of %s have caught up, want %d", countServed(h, user), user, want)
		}
	}
}

func countServed(h *Hub, user string) (n int) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for s := h.users[user]; s != nil; s = s.older {
		s.mu.Lock()
		if !s.busy {
			n++
		}
		s.mu.Unlock()
	}
	return n
}

// TestTracesOfHeldEvents moves traced events through the buffers of a stream that waits for Kafka. A span ends when its event is
// written, once.
func TestTracesOfHeldEvents(t *testing.T) {
	tracer, spans := newSpans(t)
	record := func() *recordTrace {
		return &recordTrace{tracer: tracer, parent: traceOf(&consumer.Record{Record: batch.Record{Headers: []consumer.Header{sampled}}}), start: time.Now()}
	}
	appendTraced := func(w *eventWriter) {
		b := w.buffer()
		b.b = append(b.b, "data: v\n\n"...)
		b.addTrace(record())
	}
	for name, test := range map[string]struct {
		write func(w *eventWriter) error
		want  int
	}{
		"timer":     {func(w *eventWriter) error { w.holdBackLocked(); return w.writePastLocked() }, 1},
		"joined":    {func(w *eventWriter) error { w.holdBackLocked(); appendTraced(w); return w.send() }, 2},
		"discarded": {func(w *eventWriter) error { w.discard(); return w.flush() }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStream(t, streamOptions{kafka: countingKafka{}, out: discard{}})
			appendTraced(&s.writer)
			if err := test.write(&s.writer); err != nil {
				t.Fatal(err)
			}
			if err := s.writer.flush(); err != nil {
				t.Fatal(err)
			}
			awaitSpans(t, spans, test.want)
		})
	}
}

// TestUntracedItemsTakeNoMemory takes items from a queue of which only some are traced.
func TestUntracedItemsTakeNoMemory(t *testing.T) {
	var q queue
	traced := new(recordTrace)
	for i := range 10 {
		var of *recordTrace
		if i == 3 || i == 7 {
			of = traced
		}
		q.addItem(item{}, nil, of)
	}
	if len(q.traces) != 2 {
		t.Errorf("%d traces for 2 traced items", len(q.traces))
	}
	for i := range 10 {
		if i == 3 {
			continue // is not sent
		}
		if got := q.takeTrace(i) != nil; got != (i == 7) {
			t.Errorf("item %d is traced: %t", i, got)
		}
	}
}

// TestTraceOf reads the headers of records. Only a valid traceparent of W3C Trace Context makes a trace.
func TestTraceOf(t *testing.T) {
	valid := string(sampled.Value)
	for name, test := range map[string]struct {
		headers []string // key, value, …
		sampled bool
		state   string
	}{
		"none":              {},
		"sampled":           {headers: []string{"traceparent", valid}, sampled: true},
		"not sampled":       {headers: []string{"traceparent", strings.TrimSuffix(valid, "1") + "0"}},
		"state":             {headers: []string{"traceparent", valid, "tracestate", "a=1,b=2"}, sampled: true, state: "a=1,b=2"},
		"wrong state":       {headers: []string{"traceparent", valid, "tracestate", "\x00=,,"}, sampled: true},
		"long state":        {headers: []string{"traceparent", valid, "tracestate", "a=" + strings.Repeat("1", 600)}, sampled: true},
		"last header":       {headers: []string{"traceparent", "x", "traceparent", valid}, sampled: true},
		"version ff":        {headers: []string{"traceparent", "ff" + valid[2:]}},
		"later version":     {headers: []string{"traceparent", "cc" + valid[2:] + "-more"}, sampled: true},
		"long":              {headers: []string{"traceparent", "cc" + valid[2:] + "-" + strings.Repeat("x", 1<<20)}},
		"upper case":        {headers: []string{"traceparent", strings.ToUpper(valid)}},
		"zero trace":        {headers: []string{"traceparent", "00-" + strings.Repeat("0", 32) + "-" + producerID + "-01"}},
		"zero span":         {headers: []string{"traceparent", "00-" + tracedID + "-" + strings.Repeat("0", 16) + "-01"}},
		"empty":             {headers: []string{"traceparent", ""}},
		"not UTF-8":         {headers: []string{"traceparent", "\xff\xfe" + valid[2:]}},
		"other header":      {headers: []string{"Traceparent", valid}},
		"state alone":       {headers: []string{"tracestate", "a=1"}},
		"line breaks":       {headers: []string{"traceparent", valid + "\r\n"}},
		"unknown flag bits": {headers: []string{"traceparent", valid[:len(valid)-2] + "ff"}},
	} {
		r := new(consumer.Record)
		for i := 0; i < len(test.headers); i += 2 {
			r.Headers = append(r.Headers, consumer.Header{Key: test.headers[i], Value: []byte(test.headers[i+1])})
		}
		got := traceOf(r)
		if got.IsSampled() != test.sampled || got.TraceState().String() != test.state {
			t.Errorf("%s: sampled %t, state %q; want %t, %q", name, got.IsSampled(), got.TraceState(), test.sampled, test.state)
		}
	}
}
