package integration

import (
	"bytes"
	"fmt"
	"net/url"
	"strconv"
	"testing"
	"time"
)

// resumeClient is a user's client. It keeps its position in the stream while it has no connection.
type resumeClient struct {
	index    int
	user     int
	fd       int // -1 without a connection
	position []byte
	next     int       // number of the next record
	end      int       // number after the last record that was written for the user
	first    time.Time // when the connection's first record arrived
	begun    bool      // the connection has brought an event
	done     bool      // the connection has brought all records below end, and a position after them

	headed  bool   // the response's head is complete
	left    int    // bytes of the chunk that have not arrived
	partial []byte // the head, or the line with a chunk's size, as far as it has arrived
	body    []byte // the events since the last time that the client was done
	parsed  int    // length of the part of body that was searched for records
}

// parseChunks appends the response's data in p to the body. The response is chunked (RFC 9112, section 7.1).
func (c *resumeClient) parseChunks(p []byte) error {
	if len(c.partial) > 0 {
		p = append(c.partial, p...)
		c.partial = nil
	}
	if !c.headed {
		head, rest, found := bytes.Cut(p, []byte("\r\n\r\n"))
		if !found {
			c.partial = bytes.Clone(p)
			return nil
		}
		if !bytes.HasPrefix(head, []byte("HTTP/1.1 200 ")) || !bytes.Contains(head, []byte("\r\nTransfer-Encoding: chunked")) {
			return fmt.Errorf("the server answers %q", p)
		}
		c.headed, p = true, rest
	}
	for len(p) > 0 {
		if c.left > 0 {
			n := min(c.left, len(p))
			c.body, p, c.left = append(c.body, p[:n]...), p[n:], c.left-n
			continue
		}
		line, rest, found := bytes.Cut(p, []byte("\n"))
		if !found {
			c.partial = bytes.Clone(p)
			return nil
		}
		if line = bytes.TrimSuffix(line, []byte("\r")); len(line) > 0 { // otherwise the end of a chunk
			size, err := strconv.ParseUint(string(line), 16, 31)
			if err != nil || size == 0 {
				return fmt.Errorf("the size of a chunk is %q: %w", line, err)
			}
			c.left = int(size)
		}
		p = rest
	}
	return nil
}

var recordStart = []byte(`{"to":`)

// parseRecords counts the records in the part of the body that was not parsed yet.
func (c *resumeClient) parseRecords() error {
	for {
		i := bytes.Index(c.body[c.parsed:], recordStart)
		if i < 0 {
			c.parsed = max(c.parsed, len(c.body)-len(recordStart)+1)
			return nil
		}
		c.parsed += i
		to, rest, found := bytes.Cut(c.body[c.parsed+len(recordStart):], []byte(`,"n":`))
		number, _, ended := bytes.Cut(rest, []byte(","))
		if !found || !ended {
			return nil // the rest has not arrived
		}
		if string(to) != strconv.Itoa(c.user) || string(number) != strconv.Itoa(c.next) || c.next >= c.end {
			return fmt.Errorf("record %s of %s arrives, want record %d of %d", number, to, c.next, c.end)
		}
		if c.next++; c.first.IsZero() {
			c.first = time.Now()
		}
		c.parsed += len(recordStart)
	}
}

// finish marks the client as done once the last of its records has arrived whole, with the position after it. It
// returns a buffer that the client needs no more, or nil.
func (c *resumeClient) finish(protocol *benchProtocol) (spare []byte) {
	events := c.body[:bytes.LastIndex(c.body, []byte("\n\n"))+1]
	rest := c.body[len(events):] // begins with the second of two line ends
	c.begun = c.begun || len(events) > 0
	if c.next < c.end || len(events) == 0 || bytes.Contains(rest, recordStart) {
		return nil
	}
	position := protocol.position(events, c.position)
	if position == nil && !c.done {
		return nil // the response has just begun
	}
	if position != nil {
		c.position = position
	}
	c.done = true
	if len(rest) == 1 {
		spare, rest = c.body[:0], nil
	}
	c.body, c.parsed = rest, 0
	return spare
}

// benchProtocol is how the clients of a server open a stream at a position and learn the position.
type benchProtocol struct {
	request  func(c *resumeClient, host string) string
	position func(events, last []byte) []byte // the position after the events, or nil if they have none
}

// heraldProtocol is Herald's. A position is an event id.
var heraldProtocol = benchProtocol{
	request: func(c *resumeClient, host string) string {
		request := "GET /events?user=" + user(c.user) + " HTTP/1.1\r\nHost: " + host + "\r\nAccept: text/event-stream\r\n"
		if c.position != nil {
			request += "Last-Event-ID: " + string(c.position) + "\r\n"
		}
		return request + "\r\n"
	},
	position: func(events, _ []byte) []byte {
		i := bytes.LastIndex(events, []byte("id: ")) // no record contains it
		if i < 0 {
			return nil
		}
		id, _, _ := bytes.Cut(events[i+len("id: "):], []byte("\n"))
		return bytes.Clone(id)
	},
}

// centrifugoProtocol is Centrifugo's unidirectional SSE, which has the records that it recovers in its first event.
// A position is the epoch and the offset of the user's channel, as options of the subscription that recovers.
var centrifugoProtocol = benchProtocol{
	request: func(c *resumeClient, host string) string {
		options := ""
		if c.position != nil {
			options = `"recover":true,` + string(c.position)
		}
		return "GET /connection/uni_sse?cf_connect=" + url.QueryEscape(`{"subs":{"`+user(c.user)+`":{`+options+`}}}`) +
			" HTTP/1.1\r\nHost: " + host + "\r\nAccept: text/event-stream\r\n\r\n"
	},
	position: func(events, last []byte) []byte {
		events, _, _ = bytes.Cut(events, []byte(`],"recovered":`)) // the offset after it is the request's
		_, epoch, begins := bytes.Cut(events, []byte(`"epoch":"`))
		if !begins {
			_, epoch, _ = bytes.Cut(last, []byte(`"epoch":"`))
		}
		epoch, _, _ = bytes.Cut(epoch, []byte(`"`))
		offset := []byte("0") // of an empty channel
		if i := bytes.LastIndex(events, []byte(`"offset":`)); i >= 0 {
			offset = events[i+len(`"offset":`):]
			offset = offset[:len(offset)-len(bytes.TrimLeft(offset, "0123456789"))]
		} else if !begins {
			return nil
		}
		return fmt.Appendf(nil, `"epoch":"%s","offset":%s`, epoch, offset)
	},
}

// TestResumeClient passes a response to the client in two parts, cut at every byte. It checks that the client
// accepts the records that it must get, and refuses any other record.
func TestResumeClient(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	event := func(to, n int) string {
		data := fmt.Sprintf("id: 1~%d\ndata: {\"to\":%d,\"n\":%d,\"text\":\"x\"}\n\n", n, to, n)
		return fmt.Sprintf("%x\r\n%s\r\n", len(data), data)
	}
	tests := []struct {
		name, response string
		next           int
		position       string // empty if the client must refuse the response
	}{
		{"all records", head + event(7, 3) + event(7, 4) + "2\r\n:\n\r\n", 5, "1~4"},
		{"a record is missing", head + event(7, 4), 3, ""},
		{"a record comes twice", head + event(7, 3) + event(7, 3), 4, ""},
		{"another user's record", head + event(8, 3), 3, ""},
		{"a record too many", head + event(7, 3) + event(7, 4) + event(7, 5), 5, ""},
		{"another status", "HTTP/1.1 404 Not Found\r\n\r\n", 3, ""},
		{"the end of the response", head + "0\r\n\r\n", 3, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			for cut := range len(test.response) {
				c := &resumeClient{user: 7, next: 3, end: 5}
				var err error
				for _, part := range []string{test.response[:cut], test.response[cut:]} {
					if err = c.parseChunks([]byte(part)); err != nil {
						break
					}
					if err = c.parseRecords(); err != nil {
						break
					}
					c.finish(&heraldProtocol)
				}
				if refused := test.position == ""; refused != (err != nil) || c.next != test.next || !refused && (!c.done || string(c.position) != test.position) {
					t.Fatalf("cut at %d: next %d, done %t, position %q, error %v", cut, c.next, c.done, c.position, err)
				}
			}
		})
	}
}

func TestCentrifugoPosition(t *testing.T) {
	const last = `"epoch":"ab","offset":7`
	for _, test := range []struct{ name, events, want string }{
		{"empty channel", `data: {"connect":{"subs":{"u":{"recoverable":true,"epoch":"cd","positioned":true}},"ping":25}}`, `"epoch":"cd","offset":0`},
		{"nothing missed", `data: {"connect":{"subs":{"u":{"epoch":"cd","recovered":true,"offset":3,"positioned":true}}}}`, `"epoch":"cd","offset":3`},
		{
			"recovered", `data: {"connect":{"subs":{"u":{"epoch":"cd","publications":[{"data":{},"offset":8,"epoch":"cd"},{"data":{},"offset":9}],"recovered":true,"offset":7}}}}`,
			`"epoch":"cd","offset":9`,
		},
		{"live", `data: {"channel":"u","pub":{"data":{},"offset":8}}`, `"epoch":"ab","offset":8`},
		{"ping", "data: {}", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := centrifugoProtocol.position([]byte(test.events), []byte(last)); string(got) != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}
