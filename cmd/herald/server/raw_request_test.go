package server

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"herald/auth"
)

// rawRequests are requests that a proxy may read differently than Herald, and the first lines of all answers on the
// connection. HEAD stands for the lines "Host" and "Authorization" of alice, NEXT for a complete second request with
// the answer 404.
var rawRequests = map[string]struct {
	text string
	want string // statuses
}{
	"a second request behind a stream":  {"GET /events HTTP/1.1\r\nHEAD\r\n\r\nNEXT", "200"},
	"a POST behind a stream":            {"GET /events HTTP/1.1\r\nHEAD\r\n\r\nPOST /broadcast HTTP/1.1\r\nHEAD\r\nContent-Length: 2\r\n\r\nhi", "200"},
	"a body":                            {"GET /events HTTP/1.1\r\nHEAD\r\nContent-Length: 5\r\n\r\nhelloNEXT", "400 404"},
	"an empty body":                     {"GET /events HTTP/1.1\r\nHEAD\r\nContent-Length: 0\r\n\r\nNEXT", "200"},
	"a chunked body":                    {"GET /events HTTP/1.1\r\nHEAD\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\nNEXT", "400 404"},
	"two framings":                      {"GET /events HTTP/1.1\r\nHEAD\r\nContent-Length: 10\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\nNEXT", "400 404"},
	"two lengths":                       {"GET /events HTTP/1.1\r\nHEAD\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\nhelloNEXT", "400"},
	"two encodings":                     {"GET /events HTTP/1.1\r\nHEAD\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\nNEXT", "501"},
	"an unknown encoding":               {"GET /events HTTP/1.1\r\nHEAD\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\nNEXT", "501"},
	"a space before the colon":          {"GET /events HTTP/1.1\r\nHEAD\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\nNEXT", "400"},
	"a length with a sign":              {"GET /events HTTP/1.1\r\nHEAD\r\nContent-Length: +5\r\n\r\nhelloNEXT", "400"},
	"a chunked body of HTTP/1.0":        {"GET /events HTTP/1.0\r\nHEAD\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\nNEXT", "200"},
	"HTTP/1.0 that is kept alive":       {"GET /events HTTP/1.0\r\nHEAD\r\nConnection: keep-alive\r\n\r\nNEXT", "200"},
	"HTTP/0.9":                          {"GET /events\r\nNEXT", "400"},
	"HTTP/2.0 in words":                 {"GET /events HTTP/2.0\r\nHEAD\r\n\r\nNEXT", "505"},
	"two hosts":                         {"GET /events HTTP/1.1\r\nHEAD\r\nHost: evil\r\n\r\nNEXT", "400"},
	"no host":                           {"GET /events HTTP/1.1\r\n\r\nNEXT", "400"},
	"a host with a user":                {"GET /events HTTP/1.1\r\nHost: localhost@evil\r\n\r\nNEXT", "400"},
	"a proxy's target":                  {"GET http://evil/nothing HTTP/1.1\r\nHEAD\r\n\r\n", "404"},
	"CONNECT":                           {"CONNECT localhost:80 HTTP/1.1\r\nHEAD\r\n\r\nNEXT", "404 404"},
	"HEAD":                              {"HEAD /events HTTP/1.1\r\nHEAD\r\n\r\nNEXT", "200 404"},
	"a folded line":                     {"GET /nothing HTTP/1.1\r\nHEAD\r\nX: a\r\n Content-Length: 500\r\n\r\nNEXT", "404 404"},
	"lines that end with LF only":       {"GET /nothing HTTP/1.1\nHEAD\n\nNEXT", "404 404"},
	"CR within a line":                  {"GET /events HTTP/1.1\r\nHEAD\r\nX: a\rContent-Length: 5\r\n\r\nNEXT", "400"},
	"NUL in a header":                   {"GET /events HTTP/1.1\r\nHEAD\r\nX: a\x00b\r\n\r\nNEXT", "400"},
	"NUL in the path":                   {"GET /ev\x00ents HTTP/1.1\r\nHEAD\r\n\r\nNEXT", "400"},
	"a first line that is folded":       {"GET /events HTTP/1.1\r\n X: y\r\nHEAD\r\n\r\nNEXT", "400"},
	"Expect without a body":             {"GET /events HTTP/1.1\r\nHEAD\r\nExpect: 100-continue\r\n\r\nNEXT", "200"},
	"Expect with a body that never is":  {"GET /events HTTP/1.1\r\nHEAD\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n", "400"},
	"Upgrade to HTTP/2":                 {"GET /nothing HTTP/1.1\r\nHEAD\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\nNEXT", "404 404"},
	"Upgrade of a stream to WebSocket":  {"GET /events HTTP/1.1\r\nHEAD\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nNEXT", "200"},
	"a path of another spelling":        {"GET //events HTTP/1.1\r\nHEAD\r\n\r\nGET /x/../events HTTP/1.1\r\nHEAD\r\n\r\nGET /%2Fevents HTTP/1.1\r\nHEAD\r\n\r\nGET /EVENTS HTTP/1.1\r\nHEAD\r\n\r\nGET /event%73%00 HTTP/1.1\r\nHEAD\r\n\r\nNEXT", "404 404 404 404 404 404"},
	"a target in other headers":         {"GET /nothing HTTP/1.1\r\nHEAD\r\nX-Original-URL: /events\r\nX-Rewrite-URL: /events\r\nX-HTTP-Method-Override: POST\r\n\r\nNEXT", "404 404"},
	"slashes and dots in a user's name": {"POST /users/alice/../bob/notifications HTTP/1.1\r\nHEAD\r\nContent-Length: 0\r\n\r\nPOST /users/alice%2Fnotifications HTTP/1.1\r\nHEAD\r\nContent-Length: 0\r\n\r\nNEXT", "404 404 404"},
}

// TestRawRequests sends requests that a proxy in front of Herald may read differently, each followed by another
// request. Herald must either answer both, or refuse the first and close the connection. After a stream it must not
// answer a second request.
func TestRawRequests(t *testing.T) {
	s := startSecured(t, nil)
	head := "Host: localhost\r\nAuthorization: Bearer " + s.token(t, auth.Identity{User: "alice"})
	words := strings.NewReplacer("\r\nHEAD", "\r\n"+head, "\nHEAD", "\n"+head, "NEXT", "GET /nothing HTTP/1.1\r\n"+head+"\r\n\r\n")
	conns, answers := make(map[string]net.Conn), make(map[string]string)
	for name, test := range rawRequests {
		conns[name] = dial(t, s.Addr().String())
		if _, err := io.WriteString(conns[name], words.Replace(test.text)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, conn := range conns { // until as many answers as wanted are there
		var err error
		for n := 0; err == nil && len(statuses(answers[name])) < len(strings.Fields(rawRequests[name].want)); {
			piece := make([]byte, 4096)
			n, err = conn.Read(piece)
			answers[name] += string(piece[:n])
		}
	}
	deadline := time.Now().Add(300 * time.Millisecond) // for answers that nobody wants
	for name, conn := range conns {
		if err := conn.SetReadDeadline(deadline); err != nil {
			t.Fatal(err)
		}
		rest, _ := io.ReadAll(conn) // what follows a refusal is the end, and what follows a stream is a time-out
		if got := strings.Join(statuses(answers[name]+string(rest)), " "); got != rawRequests[name].want {
			t.Errorf("%s: %s, want %s. The answer is %q.", name, got, rawRequests[name].want, answers[name])
		}
	}
}

// statuses returns the statuses of the answers in the text.
func statuses(text string) (all []string) {
	for line := range strings.Lines(text) {
		if status, ok := strings.CutPrefix(line, "HTTP/1."); ok && len(status) > 5 {
			all = append(all, status[2:5])
		}
	}
	return all
}

// rawFields are fields of requests over HTTP/2, and the status of the answer or the error code of the reset stream. A
// field replaces a field of an ordinary request; without a value it only takes the field out.
var rawFields = map[string]struct {
	fields []string // NAME, VALUE, …
	want   string
}{
	"an ordinary one":            {nil, "200"},
	"another authority":          {[]string{":authority", "evil"}, "421"},
	"another authority and host": {[]string{":authority", "evil", "host", "localhost"}, "421"},
	"another host only":          {[]string{":authority", "", "host", "evil"}, "421"},
	"an authority with a user":   {[]string{":authority", "localhost@evil"}, "PROTOCOL_ERROR"},
	"an authority with a space":  {[]string{":authority", "localhost evil"}, "421"},
	"a path without a slash":     {[]string{":path", "events"}, "PROTOCOL_ERROR"},
	"a path with a line":         {[]string{":path", "/events\r\nX: y"}, "PROTOCOL_ERROR"},
	"a path with a version":      {[]string{":path", "/events HTTP/1.1"}, "404"},
	"another scheme":             {[]string{":scheme", "javascript"}, "PROTOCOL_ERROR"},
	"CONNECT":                    {[]string{":method", "CONNECT", ":scheme", "", ":path", ""}, "404"},
	"CONNECT for WebSocket":      {[]string{":method", "CONNECT", ":protocol", "websocket"}, "PROTOCOL_ERROR"},
	"an unknown pseudo-header":   {[]string{":x", "y"}, "PROTOCOL_ERROR"},
	"a capital":                  {[]string{"Host", "localhost"}, "PROTOCOL_ERROR"},
	"a line in a value":          {[]string{"x", "a\r\nb: c"}, "PROTOCOL_ERROR"},
	"NUL in a value":             {[]string{"x", "a\x00b"}, "PROTOCOL_ERROR"},
	"Transfer-Encoding":          {[]string{"transfer-encoding", "chunked"}, "400"},
	"Connection":                 {[]string{"connection", "close"}, "400"},
	"Upgrade":                    {[]string{"upgrade", "h2c"}, "400"},
}

// TestRawRequestsOverHTTP2 sends requests that a proxy may translate into other requests of HTTP/1.1, or that name
// another server.
func TestRawRequestsOverHTTP2(t *testing.T) {
	s := startServer(t)
	for name, test := range rawFields {
		conn := dial(t, s.Addr().String())
		frames, block := http2.NewFramer(conn, conn), new(bytes.Buffer)
		request := [][2]string{{":method", "GET"}, {":scheme", "http"}, {":authority", "localhost"}, {":path", "/events?user=alice"}}
		for i := 0; i < len(test.fields); i += 2 {
			request = slices.DeleteFunc(request, func(f [2]string) bool { return f[0] == test.fields[i] })
			if test.fields[i+1] != "" {
				request = append(request, [2]string{test.fields[i], test.fields[i+1]})
			}
		}
		slices.SortStableFunc(request, func(a, b [2]string) int { // pseudo-headers first (RFC 9113, section 8.3)
			return -cmp.Compare(strings.Count(a[0], ":"), strings.Count(b[0], ":"))
		})
		fields := hpack.NewEncoder(block)
		for _, f := range request {
			_ = fields.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}) // a write to memory does not fail
		}
		_, err := io.WriteString(conn, http2.ClientPreface)
		err = errors.Join(err, frames.WriteSettings(),
			frames.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true}))
		if err != nil {
			t.Fatal(err)
		}
		if got := answerOf(t, frames); got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
}

// answerOf returns the status of the first answer, or the error code if there is none.
func answerOf(t *testing.T, frames *http2.Framer) (answer string) {
	t.Helper()
	frames.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	for {
		frame, err := frames.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		switch f := frame.(type) {
		case *http2.MetaHeadersFrame:
			return f.PseudoValue("status")
		case *http2.RSTStreamFrame:
			return f.ErrCode.String()
		case *http2.GoAwayFrame:
			return "the end of the connection by " + f.ErrCode.String()
		}
	}
}
