package integration

import (
	"context"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	traces "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// spanCollector is an OpenTelemetry collector.
type spanCollector struct {
	*httptest.Server
	spans chan *traces.Span
}

func startCollector(t *testing.T) *spanCollector {
	t.Helper()
	c := &spanCollector{spans: make(chan *traces.Span, 100)}
	c.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var request collector.ExportTraceServiceRequest
		if err == nil {
			err = proto.Unmarshal(body, &request)
		}
		if err != nil || r.URL.Path != "/v1/traces" {
			t.Errorf("POST %s: %v", r.URL.Path, err)
		}
		if r.Header.Get("Api-Key") != "k" {
			t.Errorf("the request lacks the header of OTEL_EXPORTER_OTLP_HEADERS: %v", r.Header)
		}
		if text := string(body); strings.Contains(text, "alice") || strings.Contains(text, "secret") {
			t.Errorf("a span has a user or a value: %q", text)
		}
		for _, resource := range request.ResourceSpans {
			for _, scope := range resource.ScopeSpans {
				for _, span := range scope.Spans {
					c.spans <- span
				}
			}
		}
	}))
	t.Cleanup(c.Close)
	return c
}

// TestTracing follows traced records through the built binary: a producer's, and one that is published over HTTP. The
// collector gets a span for each, whose parent is the span of the sender. Records that are not traced, and replayed ones, make no
// span.
func TestTracing(t *testing.T) {
	t.Parallel()
	const trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	const header, unsampled = "00-" + trace + "-" + parent + "-01", "00-" + trace + "-" + parent + "-00"
	b, c := sharedBroker(t), startCollector(t)
	topic := b.newTopic(t, "notifications", 1)
	h := newHerald(t, b, "--topic="+topic, "--enable-publish", "--trace-endpoint="+c.URL)
	h.env = []string{"OTEL_EXPORTER_OTLP_HEADERS=api-key=k"}
	h.Start()
	s := newStream(t, h.public, "alice")
	s.Connect()
	waitFor(t, "the stream is live", func(_ context.Context) bool {
		return strings.Contains(s.Event().Data, `"live":true`)
	})
	traced := func(value, header string) *kgo.Record {
		r := record(topic, "alice", value)
		r.Headers = []kgo.RecordHeader{{Key: "traceparent", Value: []byte(header)}, {Key: "tracestate", Value: []byte("a=1")}}
		return r
	}
	b.produce(t, record(topic, "alice", "secret 0"), traced("secret 1", unsampled), traced("secret 2", "00-x"), traced("secret 3", header))
	a := mustSend(t, http.MethodPost, "http://"+h.public+"/users/alice/notifications", "secret 4", "traceparent", header, "tracestate", "a=1")
	if a.status != http.StatusCreated {
		t.Fatalf("POST = %d %s", a.status, a.body)
	}
	s.Values(5)
	for offset := int64(3); offset <= 4; offset++ {
		checkSpan(t, <-c.spans, topic, offset, trace, parent)
	}
	var published []string
	for _, sent := range b.recordsOf(t, topic, 0)[4].Headers {
		published = append(published, sent.Key+": "+string(sent.Value))
	}
	for _, want := range []string{"traceparent: " + header, "tracestate: a=1"} {
		if !slices.Contains(published, want) {
			t.Errorf("the published record has the headers %q, want %q", published, want)
		}
	}
	replayed := newStream(t, h.public, "alice")
	replayed.url += "&since=earliest"
	replayed.Connect()
	replayed.Values(5)
	h.Stop() // sends the spans that wait
	select {
	case span := <-c.spans:
		t.Errorf("one more span: %v", span)
	default:
	}
}

func checkSpan(t *testing.T, span *traces.Span, topic string, offset int64, trace, parent string) {
	t.Helper()
	if got := hex.EncodeToString(span.TraceId); got != trace {
		t.Errorf("offset %d: trace %s, want %s", offset, got, trace)
	}
	if got := hex.EncodeToString(span.ParentSpanId); got != parent {
		t.Errorf("offset %d: parent %s, want %s", offset, got, parent)
	}
	if span.Kind != traces.Span_SPAN_KIND_CONSUMER || span.TraceState != "a=1" || span.EndTimeUnixNano <= span.StartTimeUnixNano {
		t.Errorf("offset %d: %v", offset, span)
	}
	got := make(map[string]string)
	for _, a := range span.Attributes {
		got[a.Key] = a.Value.GetStringValue()
		if n := a.Value.GetIntValue(); n != 0 {
			got[a.Key] = strconv.FormatInt(n, 10)
		}
	}
	want := map[string]string{
		"messaging.system": "kafka", "messaging.operation.name": "deliver", "messaging.operation.type": "process",
		"messaging.destination.name": topic, "messaging.destination.partition.id": "0",
		"messaging.kafka.offset": strconv.FormatInt(offset, 10), "messaging.message.body.size": "8",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("offset %d: attributes (-want +got):\n%s", offset, diff)
	}
}
