package tracing

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

const (
	exportTimeout = 10 * time.Second // for one batch, retries included
	batchTimeout  = time.Second      // how long a span waits for others
	batchSpans    = 512
)

// defaultPath is the path of a collector's traces (OTLP 1.x, "OTLP/HTTP Request").
const defaultPath = "/v1/traces"

// Config configures [Start].
type Config struct {
	Endpoint string // the collector's URL; see [CheckEndpoint]
	Version  string // of the service
	Replica  string // the instance of the service
	Logger   *slog.Logger
	Counts   *Counts
}

// Provider makes spans and sends them.
type Provider struct {
	sdk *sdktrace.TracerProvider
}

// CheckEndpoint returns an error if spans cannot be sent to the URL.
func CheckEndpoint(endpoint string) error {
	_, err := parseEndpoint(endpoint)
	return err
}

// parseEndpoint returns the URL that spans are sent to. A URL without a path gets [defaultPath].
func parseEndpoint(endpoint string) (string, error) {
	u, err := url.Parse(endpoint)
	switch {
	case err != nil, u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "":
		return "", errors.New("want the URL of a collector that takes OTLP over HTTP, such as http://localhost:4318")
	case u.User != nil, u.RawQuery != "", u.Fragment != "":
		return "", errors.New("the URL may have no user, query or fragment: the variable OTEL_EXPORTER_OTLP_HEADERS takes credentials")
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = defaultPath
	}
	return u.String(), nil
}

// Start starts to send spans. It connects to nothing yet. The SDK reads the variables OTEL_EXPORTER_OTLP_HEADERS and other
// ones of the exporter, OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES. The caller calls [Provider.Stop].
func Start(ctx context.Context, cfg Config) (*Provider, error) {
	endpoint, err := parseEndpoint(cfg.Endpoint)
	if err != nil {
		return nil, err
	}
	useLog(cfg.Logger)
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(endpoint))
	if err != nil {
		return nil, fmt.Errorf("exporter of spans: %w", err)
	}
	return newProvider(ctx, cfg, exporter)
}

func newProvider(ctx context.Context, cfg Config, exporter sdktrace.SpanExporter) (*Provider, error) {
	described, err := resource.New(ctx, // what comes later takes precedence
		resource.WithTelemetrySDK(),
		resource.WithAttributes(semconv.ServiceName("herald"), semconv.ServiceVersion(cfg.Version), semconv.ServiceInstanceID(cfg.Replica)),
		resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	counted := &countedExporter{exporter: exporter, counts: cfg.Counts, log: cfg.Logger}
	batches := sdktrace.NewBatchSpanProcessor(counted, sdktrace.WithMaxQueueSize(maxWaiting), sdktrace.WithMaxExportBatchSize(batchSpans),
		sdktrace.WithBatchTimeout(batchTimeout), sdktrace.WithExportTimeout(exportTimeout))
	return &Provider{sdk: sdktrace.NewTracerProvider(
		sdktrace.WithResource(described),
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.NeverSample())), // the producer decides
		sdktrace.WithSpanProcessor(&boundedProcessor{SpanProcessor: batches, exporter: counted}),
	)}, nil
}

// Tracer returns the tracer whose spans are sent.
func (p *Provider) Tracer() trace.Tracer {
	return p.sdk.Tracer("herald/stream", trace.WithSchemaURL(semconv.SchemaURL))
}

// stopTimeout bounds [Provider.Stop].
const stopTimeout = 3 * time.Second

// Stop sends the spans that wait, for a few seconds at most.
func (p *Provider) Stop() {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	_ = p.sdk.Shutdown(ctx) // the exporter counts and logs what is lost
}
