package bench

import (
	"encoding/json"
	"errors"
	"io"
	"strings"
	"time"

	"herald/cmd/herald/tail"
	"herald/stream"
)

const defaultRetry = 2 * time.Second // until the server says another reconnection time

// client is one stream. Its shard's lock guards it.
type client struct {
	shard   *shard
	index   int
	source  int    // whose records it gets; one of the run's sources
	target  string // the request's path and query
	bearer  string // token; may be empty
	stalled bool   // it reads no more once it has begun

	conn  io.Closer // nil while there is none
	turn  int32     // counts connections: what belongs to an earlier one is ignored
	slot  chan struct{}
	ready bool // the checkpoint has come

	response response
	events   tail.BlockReader
	lastID   []byte
	retry    time.Duration
	reason   string // what the server's end event said
	got      tally
}

// request is the text of the request that opens the stream, or goes on with it.
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

// connected begins a connection.
func (s *client) connected(c io.Closer) {
	s.conn = c
	s.turn++
	s.ready, s.reason = false, ""
	s.response, s.events = response{}, tail.BlockReader{}
}

// disconnect ends the connection, if there is one. It tells whether there was.
func (s *client) disconnect() bool {
	if s.conn == nil {
		return false
	}
	_ = s.conn.Close()
	s.conn = nil
	s.release()
	if s.ready {
		s.shard.begunCount(s).Add(-1)
	}
	s.ready = false
	return true
}

// release lets another stream open.
func (s *client) release() {
	if s.slot != nil {
		<-s.slot
		s.slot = nil
	}
}

// receive takes what has come at the time now (Unix, ns). The error is [io.EOF] when the response is
// complete, or says that the server does not speak the protocol.
func (s *client) receive(p []byte, now int64) error {
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
		data, rest, err := s.response.body(p)
		if err != nil {
			return err
		}
		if err := s.events.Push(data); err != nil {
			return err
		}
		for s.events.Next(&b) {
			s.take(&b, now)
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

// take takes a block.
func (s *client) take(b *tail.Block, now int64) {
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
			s.release()
			s.shard.begun(s, now)
		}
	case stream.TypeGap:
		s.shard.gaps[reasonIn(b.Data)]++
	case stream.TypeEnd:
		s.reason = reasonIn(b.Data)
	default:
		s.shard.event(s, b.Data, now)
	}
}

// reasonIn is the reason in the data of a gap or an end.
func reasonIn(data []byte) string {
	var own struct{ Reason string }
	if json.Unmarshal(data, &own) != nil || own.Reason == "" {
		return "unknown"
	}
	return printable(own.Reason)
}

// endReason is why a connection ended that the client did not end.
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
