package server

import (
	"net/http"
	"strings"
	"testing"
)

// TestTraceHeaders passes the trace of a request on. An invalid trace context adds no header to the record.
func TestTraceHeaders(t *testing.T) {
	const id, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	const parent = "00-" + id + "-" + span + "-01"
	for name, test := range map[string]struct{ parents, states, want []string }{
		"none":          {},
		"sampled":       {parents: []string{parent}, want: []string{"traceparent", parent}},
		"not sampled":   {parents: []string{"00-" + id + "-" + span + "-00"}, want: []string{"traceparent", "00-" + id + "-" + span + "-00"}},
		"state":         {parents: []string{parent}, states: []string{"a=1,b=2"}, want: []string{"traceparent", parent, "tracestate", "a=1,b=2"}},
		"two states":    {parents: []string{parent}, states: []string{"a=1", "b=2"}, want: []string{"traceparent", parent, "tracestate", "a=1,b=2"}},
		"wrong state":   {parents: []string{parent}, states: []string{"=,"}, want: []string{"traceparent", parent}},
		"long state":    {parents: []string{parent}, states: []string{"a=" + strings.Repeat("x", 600)}, want: []string{"traceparent", parent}},
		"state alone":   {states: []string{"a=1"}},
		"two parents":   {parents: []string{parent, parent}},
		"later version": {parents: []string{"01" + parent[2:] + "-more"}, want: []string{"traceparent", parent}},
		"upper case":    {parents: []string{strings.ToUpper(parent)}},
		"zero span":     {parents: []string{"00-" + id + "-0000000000000000-01"}},
		"long":          {parents: []string{"01" + parent[2:] + "-" + strings.Repeat("x", 80<<10)}, want: []string{"traceparent", parent}},
		"a NUL":         {parents: []string{parent + "\x00"}},
	} {
		request := http.Header{"Traceparent": test.parents, "Tracestate": test.states}
		var got []string
		for _, h := range traceHeaders(request) {
			got = append(got, h.Key, string(h.Value))
		}
		// The order of the two headers does not matter.
		if len(got) == 4 && got[0] == "tracestate" {
			got = append(got[2:], got[:2]...)
		}
		if strings.Join(got, "|") != strings.Join(test.want, "|") {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}
