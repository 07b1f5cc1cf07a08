package broker

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// maxChecked bounds a response that checkedConn reads whole, in bytes. The metadata of a million
// partitions is smaller.
const maxChecked = 64 << 20

// errUnasked says that a broker sends a response to no request.
var errUnasked = errors.New("response without a request")

// checkedConn is a connection of kafka-go. kafka-go reads a response only after kmsg could decode it,
// because kafka-go (v0.4.51) believes what a response says: it panics if a length is negative or if a
// broker's host contains a comma, and it allocates 100 GB for a count of a billion. One flipped bit can
// do each of these. kmsg compares lengths and counts with the bytes that are there.
//
// Responses to fetches pass unread, because only [ReadResponse] decodes them.
//
// checkedConn also changes metadata requests of kafka-go's ConsumerGroup so that they create no topics. The
// group's leader asks for the metadata of all members' topics, and kafka-go allows the broker to create the
// missing ones, which brokers do by default (auto.create.topics.enable). A topic deleted a moment ago, or
// named by another member only, would come to life again.
//
// Before it writes a request, checkedConn renews the SASL session if that is due (renew.go).
//
// kafka-go calls one Write and one Read at a time. On a connection of a ConsumerGroup, it calls Write while responses to
// earlier requests are on their way.
type checkedConn struct {
	net.Conn
	offer    offer    // the versions that the broker speaks
	session  *session // nil: no SASL
	noCreate bool     // the connection is of a ConsumerGroup, whose metadata requests must create no topics
	forget   func()   // is called when the connection is closed; nil: nobody counts it

	head [12]byte // of the request under way: size, key, version and correlation id
	at   int      // how many bytes of the request were written

	checked []byte // the rest of a response that was checked
	passing int    // how many bytes are left of a response that passes unread

	mu         sync.Mutex
	asked      []request // without a response yet, the oldest first
	unanswered int       // requests whose responses were not read to the end
	renewing   bool      // the session is being renewed
	deadlines  deadlines // that kafka-go has set
}

// request is a request whose response is to come.
type request struct {
	key, version  int16
	correlationID int32
}

// Close implements [net.Conn].
func (c *checkedConn) Close() error {
	if c.forget != nil {
		c.forget()
	}
	return c.Conn.Close()
}

// RemoteAddr implements [net.Conn].
func (c *checkedConn) RemoteAddr() net.Addr { return offerAddr{c.Conn.RemoteAddr(), c.offer} }

// Write implements [net.Conn].
func (c *checkedConn) Write(p []byte) (int, error) {
	const first, last = 4, 7 // the versions of metadata requests whose last byte says whether topics may be created
	if c.at == 0 && len(p) > 0 {
		if err := c.renewSession(); err != nil {
			return 0, err
		}
	}
	p = slices.Clone(p)
	for i, b := range p {
		if c.at < len(c.head) {
			c.head[c.at] = b
		}
		if c.at++; c.at == len(c.head) {
			c.expectResponse()
		}
		if c.at < 4 || c.at < 4+int(binary.BigEndian.Uint32(c.head[:])) {
			continue
		}
		key, version := kmsg.Key(binary.BigEndian.Uint16(c.head[4:])), binary.BigEndian.Uint16(c.head[6:])
		if c.noCreate && key == kmsg.Metadata && first <= version && version <= last {
			p[i] = 0
		}
		c.head, c.at = [12]byte{}, 0
	}
	return c.Conn.Write(p)
}

// expectResponse notes the request whose head was written.
func (c *checkedConn) expectResponse() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unanswered++
	c.asked = append(c.asked, request{
		key:           int16(binary.BigEndian.Uint16(c.head[4:])),
		version:       int16(binary.BigEndian.Uint16(c.head[6:])),
		correlationID: int32(binary.BigEndian.Uint32(c.head[8:])),
	})
}

// takeRequest returns the oldest request without a response.
func (c *checkedConn) takeRequest() (request, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.asked) == 0 {
		return request{}, errUnasked
	}
	r := c.asked[0]
	c.asked = c.asked[1:]
	return r, nil
}

// recordAnswer notes that a response was read to its end.
func (c *checkedConn) recordAnswer() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unanswered--
}

// Read implements [net.Conn].
func (c *checkedConn) Read(p []byte) (int, error) {
	if len(c.checked) == 0 && c.passing == 0 {
		if err := c.readResponse(); err != nil {
			return 0, err
		}
	}
	if len(c.checked) > 0 {
		n := copy(p, c.checked)
		c.checked = c.checked[n:]
		return n, nil
	}
	n, err := c.Conn.Read(p[:min(len(p), c.passing)])
	if c.passing -= n; c.passing == 0 {
		c.recordAnswer()
	}
	return n, err
}

// readResponse reads the next response and checks it. Of a response to a fetch, it reads and checks only the head.
func (c *checkedConn) readResponse() error {
	head := make([]byte, 8)
	if _, err := io.ReadFull(c.Conn, head); err != nil {
		return err
	}
	asked, err := c.takeRequest()
	if err != nil {
		return err
	}
	size, err := responseSize(head, asked.correlationID)
	if err != nil {
		return err
	}
	if asked.key == int16(kmsg.Fetch) {
		c.checked, c.passing = head, size
		if size == 0 {
			c.recordAnswer()
		}
		return nil
	}
	if size > maxChecked {
		return fmt.Errorf("response of %d bytes (at most %d)", size, maxChecked)
	}
	body, err := readBody(c.Conn, new([]byte), size)
	if err != nil {
		return err
	}
	c.recordAnswer()
	if err := asked.check(body); err != nil {
		return fmt.Errorf("response to %s v%d: %w", kmsg.NameForKey(asked.key), asked.version, err)
	}
	c.checked = append(head, body...)
	return nil
}

// check returns nil if kafka-go can decode the response without harm.
func (r request) check(body []byte) error {
	res := kmsg.ResponseForKey(r.key)
	if res == nil {
		return errUnasked
	}
	res.SetVersion(r.version)
	if err := decodeResponse(res, body); err != nil {
		return err
	}
	switch res := res.(type) {
	case *kmsg.MetadataResponse:
		for i := range res.Brokers {
			if strings.Contains(res.Brokers[i].Host, ",") { // kafka-go takes it for a list
				return fmt.Errorf("broker %d has the host %q", res.Brokers[i].NodeID, res.Brokers[i].Host)
			}
		}
	case *kmsg.ApiVersionsResponse:
		if len(res.ApiKeys) == 0 { // also if the count is negative, which kafka-go believes
			return errors.New("the broker names no requests that it knows")
		}
	case *kmsg.SyncGroupResponse:
		var assignment kmsg.ConsumerMemberAssignment
		if len(res.MemberAssignment) > 0 { // empty after an error
			return assignment.ReadFrom(res.MemberAssignment)
		}
	}
	return nil
}
