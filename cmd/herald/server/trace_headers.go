package server

import (
	"context"
	"net/http"
	"strings"

	"go.opentelemetry.io/otel/propagation"

	"herald/consumer"
)

// maxTracestate is the longest tracestate that a record gets, in bytes. W3C Trace Context, section 3.3.1.5, asks for 512.
const maxTracestate = 512

// traceHeaders returns the record headers that continue the trace of a request (W3C Trace Context). There are none if the
// request has no valid traceparent. The headers do not depend on whether this server traces: the consumers of the record may.
func traceHeaders(request http.Header) []consumer.Header {
	parents := request.Values("traceparent")
	if len(parents) != 1 { // section 3.2.2 knows one
		return nil
	}
	received := propagation.MapCarrier{"traceparent": parents[0]}
	if state := strings.Join(request.Values("tracestate"), ","); len(state) <= maxTracestate { // section 3.3.1: several headers are one list
		received["tracestate"] = state
	}
	sent := propagation.MapCarrier{}
	w3c := propagation.TraceContext{}
	w3c.Inject(w3c.Extract(context.Background(), received), sent)
	var headers []consumer.Header
	for _, name := range w3c.Fields() {
		if value := sent[name]; value != "" {
			headers = append(headers, consumer.Header{Key: name, Value: []byte(value)})
		}
	}
	return headers
}
