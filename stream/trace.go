package stream

import (
	"context"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"herald/consumer"
)

// maxTraceHeader is the longest header of a trace that is read, in bytes. W3C Trace Context, section 3.3.1.5, asks for 512
// bytes of tracestate. The trace stays in memory while its record waits in a queue.
const maxTraceHeader = 512

// recordTrace is a live record that its producer traces. All streams that get the record share it. A stream makes its
// span when its client's socket has accepted the event, with the start time that is kept here. So a stream that drops the
// record leaves no span behind.
type recordTrace struct {
	tracer    trace.Tracer
	parent    trace.SpanContext
	template  string // the topic's name without the user
	partition consumer.Partition
	offset    int64
	size      int
	tombstone bool
	start     time.Time
}

// TraceRecords makes the hub's streams report spans of the live records whose header traceparent (W3C Trace Context) has the
// flag sampled. It must be called before the first record is delivered. Without it, nothing looks at these headers.
// template returns a topic's name without the user, such as notifications.{user}: collectors must not learn users.
func (h *Hub) TraceRecords(tracer trace.Tracer, template func(topic string) string) {
	h.tracer, h.template = tracer, template
}

// traceRecord returns the trace of a record that is being delivered; nil if nobody traces the record.
func (h *Hub) traceRecord(p consumer.Partition, r *consumer.Record) *recordTrace {
	if h.tracer == nil {
		return nil
	}
	parent := traceOf(r)
	if !parent.IsSampled() {
		return nil
	}
	return &recordTrace{
		tracer: h.tracer, parent: parent, template: h.template(p.Topic), partition: p, offset: r.Offset, size: len(r.Value), tombstone: r.Value == nil, start: time.Now(),
	}
}

// traceOf returns the trace context in a record's headers. It is invalid if the record has none, or a wrong one.
func traceOf(r *consumer.Record) trace.SpanContext {
	if _, traced := r.Header("traceparent"); !traced {
		return trace.SpanContext{}
	}
	return trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), traceHeaders{r}))
}

// traceHeaders reads the headers of a trace from a record. It implements [propagation.TextMapCarrier].
type traceHeaders struct{ record *consumer.Record }

// Get returns the header's value; an empty string if the record has no such header, or a too long one.
func (h traceHeaders) Get(key string) string {
	value, _ := h.record.Header(key)
	if len(value) > maxTraceHeader {
		return ""
	}
	return string(value)
}

// Set does nothing: the headers are only read.
func (h traceHeaders) Set(string, string) {}

// Keys returns nothing: the propagator knows the names of its headers.
func (h traceHeaders) Keys() []string { return nil }

// end reports a span from the record's delivery until now.
func (t *recordTrace) end(more ...attribute.KeyValue) {
	destination := semconv.MessagingDestinationName(t.template)
	if t.template != t.partition.Topic {
		destination = semconv.MessagingDestinationTemplate(t.template)
	}
	attributes := append([]attribute.KeyValue{
		semconv.MessagingSystemKafka, semconv.MessagingOperationTypeProcess, semconv.MessagingOperationName("deliver"),
		destination, semconv.MessagingDestinationPartitionID(strconv.Itoa(int(t.partition.ID))),
		semconv.MessagingKafkaOffset(int(t.offset)), semconv.MessagingMessageBodySize(t.size),
	}, more...)
	if t.tombstone {
		attributes = append(attributes, semconv.MessagingKafkaMessageTombstone(true))
	}
	_, span := t.tracer.Start(trace.ContextWithRemoteSpanContext(context.Background(), t.parent), "deliver "+t.template,
		trace.WithSpanKind(trace.SpanKindConsumer), trace.WithTimestamp(t.start), trace.WithAttributes(attributes...))
	span.End()
}

// endBroadcast reports the one span of a broadcast, which ends when the record is queued for all streams.
func (t *recordTrace) endBroadcast(streams int) {
	if t != nil && streams > 0 {
		t.end(attribute.Int("herald.streams", streams))
	}
}

// queuedTrace is the trace of an item in a queue.
type queuedTrace struct {
	item  int // the item's index
	trace *recordTrace
}

// takeTrace returns the trace of an item; nil if nobody traces the item's record. It forgets the traces of the items before.
// It is called for the items in their order.
func (q *queue) takeTrace(item int) *recordTrace {
	for len(q.traces) > 0 && q.traces[0].item <= item {
		t := q.traces[0]
		q.traces = q.traces[1:]
		if t.item == item {
			return t.trace
		}
	}
	return nil
}

// addTrace has the event that was appended last traced until its client has it. t may be nil.
func (b *buffer) addTrace(t *recordTrace) {
	if t != nil {
		b.traces = append(b.traces, t)
	}
}

// endTracesLocked reports the spans of the buffer's records, all of which were sent. If the client has nothing until it has
// the whole answer, reportWhole ends them later.
func (w *eventWriter) endTracesLocked(b *buffer) {
	if len(b.traces) == 0 {
		return
	}
	if w.poll.isWhole() {
		w.poll.traces = append(w.poll.traces, b.traces...)
	} else {
		endTraces(b.traces)
	}
	b.traces = nil
}

func endTraces(traces []*recordTrace) {
	for _, t := range traces {
		t.end()
	}
}
