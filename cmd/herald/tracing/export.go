package tracing

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// maxWaiting is how many spans may wait for the collector. A span takes about 2 KiB.
const maxWaiting = 4096

// maxReason is how many bytes of an error the log gets. The error of a collector's answer has the whole answer.
const maxReason = 500

// logInterval is the least time between two log lines about lost spans.
const logInterval = time.Minute

// Counts counts spans. It is a [prometheus.Collector].
type Counts struct {
	exported, dropped prometheus.Counter
}

// NewCounts returns counts of zero.
func NewCounts() *Counts {
	return &Counts{
		exported: prometheus.NewCounter(prometheus.CounterOpts{Name: "herald_trace_spans_exported_total", Help: "Spans that the collector of --trace-endpoint has taken."}),
		dropped:  prometheus.NewCounter(prometheus.CounterOpts{Name: "herald_trace_spans_dropped_total", Help: "Spans that were lost, because the collector of --trace-endpoint did not take them in time."}),
	}
}

// Describe implements [prometheus.Collector].
func (c *Counts) Describe(descs chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, descs) }

// Collect implements [prometheus.Collector].
func (c *Counts) Collect(metrics chan<- prometheus.Metric) {
	c.exported.Collect(metrics)
	c.dropped.Collect(metrics)
}

// boundedProcessor drops spans if too many wait. The SDK's processor does so too, but does not say how many it has dropped.
type boundedProcessor struct {
	sdktrace.SpanProcessor
	exporter *countedExporter
}

// OnEnd implements [sdktrace.SpanProcessor].
func (p *boundedProcessor) OnEnd(s sdktrace.ReadOnlySpan) {
	if p.exporter.waiting.Add(1) > maxWaiting {
		p.exporter.waiting.Add(-1)
		p.exporter.drop(1, "too many spans wait for the collector")
		return
	}
	p.SpanProcessor.OnEnd(s)
}

// Shutdown implements [sdktrace.SpanProcessor]. It counts the spans that are lost because ctx ended.
func (p *boundedProcessor) Shutdown(ctx context.Context) error {
	err := p.SpanProcessor.Shutdown(ctx)
	if lost := p.exporter.waiting.Swap(0); lost > 0 {
		p.exporter.drop(int(lost), "the server stops")
	}
	return err
}

// countedExporter counts the spans that its exporter sends, and logs why spans are lost.
type countedExporter struct {
	exporter sdktrace.SpanExporter
	counts   *Counts
	log      *slog.Logger
	waiting  atomic.Int64

	mu     sync.Mutex
	logged time.Time // when the last line was logged
	lost   int       // since then
}

// ExportSpans implements [sdktrace.SpanExporter]. It returns no error: the SDK would write it to standard error.
func (e *countedExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := e.exporter.ExportSpans(ctx, spans)
	if e.waiting.Add(-int64(len(spans))) < 0 {
		return nil // Shutdown did not wait, and has counted them
	}
	if err != nil {
		why := err.Error()
		e.drop(len(spans), strings.ToValidUTF8(why[:min(len(why), maxReason)], ""))
		return nil // counted and logged here
	}
	e.counts.exported.Add(float64(len(spans)))
	return nil
}

// Shutdown implements [sdktrace.SpanExporter].
func (e *countedExporter) Shutdown(ctx context.Context) error { return e.exporter.Shutdown(ctx) }

// drop counts lost spans. It logs why at most once a minute.
func (e *countedExporter) drop(spans int, why string) {
	e.counts.dropped.Add(float64(spans))
	e.mu.Lock()
	e.lost += spans
	spans = 0
	if now := time.Now(); now.Sub(e.logged) >= logInterval {
		e.logged, spans, e.lost = now, e.lost, 0
	}
	e.mu.Unlock()
	if spans > 0 {
		e.log.Warn("spans dropped", "spans", spans, "error", why)
	}
}
