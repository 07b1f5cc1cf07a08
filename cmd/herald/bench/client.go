package bench

import (
	"encoding/json"
	"errors"
	"io"
	"strings"
	"time"

	"herald/cmd/herald/tail"
	"herald/cmd/herald/visible"
	"herald/stream"
)

const defaultRetry = 2 * time.Second // reconnection time until the server sets one

// client is one stream. Its shard's lock guards it.
type client struct {
	shard   *shard
	index   int
	source  int    // the run's source whose records the stream gets
	target  string // the request's path and query
	bearer  string // token; may be empty
	stalled bool   // the stream stops reading when it has begun

	conn  io.Closer // nil while the stream is not connected
	turn  int32     // counts connections, so that a late read of an earlier connection is ignored
	slot  chan struct{}
	ready bool // the connection's first checkpoint has arrived

	response response
	events   tail.BlockReader
	lastID   []byte
	retry    time.Duration
	reason   string // the reason in the server's end event
	got      tally
}

// request returns the text of the request that opens or resumes the stream.
func (s *client) request(host string) []byte {
	var b strings.Builder
	b.WriteString("GET " + s.target + " HTTP/1.1\r\nHost: " + host + "\r\nAccept: text/event-stream\r\nCache-Control: no-store\r\n")
	if s.bearer != "" {
		b.WriteString("Authorization: Bearer " + s.bearer + "\r\n")
	}
	if len(s.lastID) > 0 {
		b.WriteString("Last-Event-ID: " + string(s.lastID) + "\r\n")
	}
	b.WriteString("\r\n")
	return []byte(b.String())
}

// beginLocked sets the stream to a new connection.
func (s *client) beginLocked(c io.Closer) {
	s.conn = c
	s.turn++
	s.ready, s.reason = false, ""
	s.response, s.events = response{}, tail.BlockReader{}
}

// disconnectLocked ends the connection. It reports whether the stream had one.
func (s *client) disconnectLocked() bool {
	if s.conn == nil {
		return false
	}
	_ = s.conn.Close()
	s.conn = nil
	s.releaseSlotLocked()
	if s.ready {
		s.shard.begunStreams(s).Add(-1)
	}
	s.ready = false
	return true
}

// releaseSlotLocked lets another stream open.
func (s *client) releaseSlotLocked() {
	if s.slot != nil {
		<-s.slot
		s.slot = nil
	}
}

// receiveLocked parses bytes that arrived at the time now (Unix time, ns). The error is [io.EOF] when
// the response is complete. Any other error says that the server does not speak the protocol.
func (s *client) receiveLocked(p []byte, now int64) error {
	s.shard.bytes += int64(len(p))
	s.shard.reads++
	if !s.response.begun {
		var err error
		if p, err = s.response.readHead(p); err != nil {
			return err
		}
	}
	var b tail.Block
	for len(p) > 0 {
		data, rest, err := s.response.nextData(p)
		if err != nil {
			return err
		}
		if err := s.events.Push(data); err != nil {
			return err
		}
		for s.events.Next(&b) {
			s.handleBlockLocked(&b, now)
		}
		if s.events.Retry > 0 {
			s.retry = s.events.Retry
		}
		if s.response.ended {
			return io.EOF
		}
		p = rest
	}
	return nil
}

// handleBlockLocked counts the event of a block.
func (s *client) handleBlockLocked(b *tail.Block, now int64) {
	if b.HasID {
		s.lastID = append(s.lastID[:0], b.ID...)
	}
	if !b.HasData {
		return
	}
	switch string(b.Type) {
	case stream.TypeCheckpoint:
		if !s.ready {
			s.ready = true
			s.releaseSlotLocked()
			s.shard.countBegunLocked(s, now)
		}
	case stream.TypeGap:
		s.shard.gaps[reasonIn(b.Data)]++
	case stream.TypeEnd:
		s.reason = reasonIn(b.Data)
	default:
		s.shard.countEventLocked(s, b.Data, now)
	}
}

// reasonIn returns the reason in the data of a gap event or an end event.
func reasonIn(data []byte) string {
	var own struct{ Reason string }
	if json.Unmarshal(data, &own) != nil || own.Reason == "" {
		return "unknown"
	}
	return visible.Text(own.Reason)
}

// endReason says why the server or the network has ended the connection.
func (s *client) endReason(err error) string {
	switch {
	case s.reason != "":
		return s.reason
	case errors.Is(err, io.EOF) && s.response.ended:
		return "ended"
	default:
		return "cut"
	}
}
