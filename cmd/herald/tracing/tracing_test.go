package tracing

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.opentelemetry.io/otel/trace"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
)

// TestMain fails the package if a goroutine is left when its tests are done.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// logText is a log that several goroutines write.
type logText struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logText) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// start starts a provider that sends to the endpoint.
func start(t *testing.T, endpoint string) (*Provider, *Counts, *logText) {
	t.Helper()
	counts, log := NewCounts(), new(logText)
	p, err := Start(t.Context(), Config{Endpoint: endpoint, Version: "1", Replica: "r", Logger: slog.New(slog.NewTextHandler(log, nil)), Counts: counts})
	if err != nil {
		t.Fatal(err)
	}
	return p, counts, log
}

// endSpans ends that many spans of a sampled parent, and reports how long it took.
func endSpans(p *Provider, count int) time.Duration {
	parent := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: trace.FlagsSampled, Remote: true})
	ctx, tracer, begin := trace.ContextWithRemoteSpanContext(context.Background(), parent), p.Tracer(), time.Now()
	for range count {
		_, span := tracer.Start(ctx, "span")
		span.End()
	}
	return time.Since(begin)
}

// TestCollectorGetsSpans sends spans to a collector, which must get each of them, the description of the service, and the
// headers of the environment.
func TestCollectorGetsSpans(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20secret")
	t.Setenv("OTEL_SERVICE_NAME", "bell")
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
	var mu sync.Mutex
	spans, described := 0, make(map[string]string)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var request collector.ExportTraceServiceRequest
		if err := proto.Unmarshal(body, &request); err != nil || r.URL.Path != "/v1/traces" || r.Header.Get("Authorization") != "Bearer secret" {
			t.Errorf("%s %v: %v", r.URL, r.Header, err)
		}
		mu.Lock()
		defer mu.Unlock()
		for _, resource := range request.ResourceSpans {
			for _, a := range resource.Resource.Attributes {
				described[a.Key] = a.Value.GetStringValue()
			}
			for _, scope := range resource.ScopeSpans {
				spans += len(scope.Spans)
			}
		}
	}))
	defer server.Close()
	p, counts, log := start(t, server.URL)
	endSpans(p, 1000)
	p.Stop()
	http.DefaultClient.CloseIdleConnections()
	if exported, dropped := testutil.ToFloat64(counts.exported), testutil.ToFloat64(counts.dropped); spans != 1000 || exported != 1000 || dropped != 0 {
		t.Errorf("the collector has %d spans; exported %v, dropped %v; want 1000, 1000, 0\n%s", spans, exported, dropped, log)
	}
	for key, want := range map[string]string{"service.name": "bell", "service.version": "1", "service.instance.id": "r", "deployment.environment.name": "test"} {
		if described[key] != want {
			t.Errorf("%s = %q, want %q", key, described[key], want)
		}
	}
}

// TestCollectorFails sends spans to collectors that do not take them. Ending a span must not wait, each lost span must
// count, the log must get one line, and the end must be bounded.
func TestCollectorFails(t *testing.T) {
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.URL.Path == "/slow" {
			<-release
		}
		http.Error(w, strings.Repeat("no", 1<<20), http.StatusBadRequest)
	}))
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(release) })
	closed, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // is closed at once
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	for name, endpoint := range map[string]string{
		"down": "http://" + closed.Addr().String(), "slow": server.URL + "/slow", "refuses": server.URL,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, counts, log := start(t, endpoint)
			const spans = maxWaiting + 3000
			if took := endSpans(p, spans); took > 8*time.Second {
				t.Errorf("%d spans took %v", spans, took)
			}
			begin := time.Now()
			p.Stop()
			if took := time.Since(begin); took > stopTimeout+17*time.Second {
				t.Errorf("Stop took %v", took)
			}
			if exported, dropped := testutil.ToFloat64(counts.exported), testutil.ToFloat64(counts.dropped); exported != 0 || dropped != spans {
				t.Errorf("exported %v, dropped %v; want 0, %d", exported, dropped, spans)
			}
			if lines := strings.Count(log.String(), "spans dropped"); lines != 1 {
				t.Errorf("%d lines:\n%s", lines, log)
			}
			if size := len(log.String()); size > 2*maxReason {
				t.Errorf("the log has %d bytes", size)
			}
		})
	}
}

// TestWrongVariable starts with a variable that the SDK cannot read. The log must say so without its contents.
func TestWrongVariable(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization Bearer secret")
	p, _, log := start(t, "http://127.0.0.1:1")
	p.Stop()
	if text := log.String(); !strings.Contains(text, "parse headers") || strings.Contains(text, "secret") {
		t.Errorf("the log says %q", text)
	}
}

// TestCheckEndpoint checks URLs of collectors.
func TestCheckEndpoint(t *testing.T) {
	for endpoint, want := range map[string]string{
		"http://localhost:4318":              "http://localhost:4318/v1/traces",
		"https://collector/":                 "https://collector/v1/traces",
		"https://collector/otlp/v1/traces":   "https://collector/otlp/v1/traces",
		"http://[::1]:4318":                  "http://[::1]:4318/v1/traces",
		"localhost:4318":                     "",
		"grpc://localhost:4317":              "",
		"http://:4318":                       "",
		"http://user:password@localhost":     "",
		"http://localhost:4318?token=secret": "",
		"/v1/traces":                         "",
		"http://a b":                         "",
	} {
		if got, err := parseEndpoint(endpoint); got != want || (err == nil) != (want != "") || (CheckEndpoint(endpoint) == nil) != (want != "") {
			t.Errorf("%s: %q, %v; want %q", endpoint, got, err, want)
		}
	}
}
