package stream

import (
	"fmt"
	"net/http"
)

// protocol is the version of HTTP of a client's connection, and whether the connection has TLS: of the connection to
// Herald, which is a proxy's if there is one.
type protocol uint8

const overTLS protocol = 1

func protocolOf(r *http.Request) protocol {
	p := protocol(r.ProtoMajor*10+r.ProtoMinor) << 1 //nolint:gosec // net/http takes 1.0, 1.1 and 2.0
	if r.TLS != nil {
		p |= overTLS
	}
	return p
}

// String returns a text such as HTTP/2+TLS.
func (p protocol) String() string {
	version := p >> 1
	text := fmt.Sprintf("HTTP/%d.%d", version/10, version%10)
	if version == 20 {
		text = "HTTP/2"
	}
	if p&overTLS != 0 {
		text += "+TLS"
	}
	return text
}
