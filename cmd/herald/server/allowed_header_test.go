package server

import (
	"strings"
	"testing"
)

// TestAllowedHeaders checks which names --allow-header accepts. For each other name, an error says what is wrong.
func TestAllowedHeaders(t *testing.T) {
	for name, want := range map[string]string{
		"X-Request-ID": "", "x-datadog-trace-id": "", "Accept": "", "traceparent": "", "b3": "", "X_A": "", "!#$%&'+-.^_`|~": "", "Secret": "",

		"*":              "want a list of headers",
		"X-*":            "no wildcard within a name",
		"X-A: b":         "without a colon and a value",
		"X A":            "want the name of a header",
		"X-Ä":            "want the name of a header",
		"X-A\r\nX-B":     "want the name of a header",
		"X-A;X-B":        "want the name of a header",
		"":               "want the name of a header",
		"Cookie":         "pages cannot",
		"Origin":         "pages cannot",
		"sec-fetch-site": "pages cannot",
		"Proxy-Trace":    "pages cannot",
	} {
		if err := checkAllowedHeader(name); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", name, err, want)
		}
	}
}
