// Package tracing sends spans to an OpenTelemetry collector, by OTLP over HTTP.
//
// It is the only package that imports the OpenTelemetry SDK. A collector that is slow or down costs spans, which are counted,
// and never time: a bounded number of spans waits for it, and the spans beyond that number are dropped.
package tracing
