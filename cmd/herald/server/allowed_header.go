package server

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// requestHeaders are the request headers that pages of other origins may always send, in the order of the answer to a
// preflight. Libraries for tracing (W3C Trace Context and Baggage, Sentry) add the lower-case ones to each request of a
// page. A page may send Accept without asking, unless its value is long (Fetch, "CORS-safelisted
// request-header").
var requestHeaders = []string{
	"Accept", "Authorization", "Cache-Control", "Content-Type", "Idempotency-Key", "Last-Event-ID",
	"baggage", "sentry-trace", "traceparent", "tracestate",
}

// browserHeaders are headers that no page can set, whatever a preflight says (Fetch, "forbidden request-header").
var browserHeaders = []string{
	"accept-charset", "accept-encoding", "access-control-request-headers", "access-control-request-method",
	"access-control-request-private-network", "connection", "content-length", "cookie", "cookie2", "date", "dnt", "expect", "host",
	"keep-alive", "origin", "referer", "set-cookie", "te", "trailer", "transfer-encoding", "upgrade", "via",
}

// checkAllowedHeader returns an error for a text that no page can send as the name of a header.
func checkAllowedHeader(name string) error {
	lower := strings.ToLower(name)
	switch {
	case name == "*":
		return errors.New(`"*": want a list of headers: browsers take * for a header of this name in requests with the session cookie, and never for Authorization`)
	case strings.Contains(name, "*"):
		return fmt.Errorf("%q: want whole names of headers: browsers know no wildcard within a name", name)
	case strings.Contains(name, ":"):
		return fmt.Errorf("%q: want the name of a header alone, without a colon and a value", name)
	case !httpguts.ValidHeaderFieldName(name): // RFC 9110, section 5.1
		return fmt.Errorf("%q: want the name of a header, such as X-Request-ID: letters, digits and !#$%%&'+-.^_`|~", name)
	case slices.Contains(browserHeaders, lower), strings.HasPrefix(lower, "proxy-"), strings.HasPrefix(lower, "sec-"):
		return fmt.Errorf("%q: only browsers set this header, pages cannot", name)
	}
	return nil
}
