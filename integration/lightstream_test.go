package integration

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"syscall"
	"time"
)

// lightStream is a user's stream for tests with thousands of them: a connection and two small buffers.
type lightStream struct {
	conn   net.Conn
	reader *eventReader
	next   map[string]int // number of the next value, by name
}

// openLight connects and reads up to the checkpoint. It resumes from the last event ID, if there is one.
func openLight(ctx context.Context, dialer *net.Dialer, address, user, lastID string) (*lightStream, error) {
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	s := &lightStream{conn: conn, next: make(map[string]int)}
	if err := s.begin(ctx, address, user, lastID); err != nil {
		s.Cut()
		return nil, fmt.Errorf("stream of %s: %w", user, err)
	}
	return s, nil
}

func (s *lightStream) begin(ctx context.Context, address, user, lastID string) error {
	if err := s.beginPatience(); err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/events?user="+user, nil)
	if err != nil {
		return err
	}
	if lastID != "" {
		request.Header.Set("Last-Event-ID", lastID)
	}
	if err := request.Write(s.conn); err != nil {
		return err
	}
	response, err := http.ReadResponse(bufio.NewReaderSize(s.conn, 1024), request) //nolint:bodyclose // closed with the connection
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return errors.New(response.Status)
	}
	s.reader = &eventReader{r: bufio.NewReaderSize(response.Body, 1024)}
	e, err := s.reader.next()
	if err == nil && (e.Type != "checkpoint" || e.ID == "") {
		err = fmt.Errorf("the stream begins with %+v, want a checkpoint with an id", e)
	}
	return err
}

// beginPatience sets the deadline of what follows.
func (s *lightStream) beginPatience() error { return s.conn.SetDeadline(time.Now().Add(2 * patience)) }

// Cut resets the connection, so that the client's port is free at once.
func (s *lightStream) Cut() {
	_ = s.conn.(*net.TCPConn).SetLinger(0)
	_ = s.conn.Close()
}

// ReadTo reads values "NAME NUMBER …" until it has read, for each name in end, all numbers below end[name]. It skips
// checkpoints. Any other value than the next number of a name is an error, and so is a number that is not below
// end[name].
func (s *lightStream) ReadTo(end map[string]int) error {
	if err := s.beginPatience(); err != nil {
		return err
	}
	for left := func() (n int) {
		for name, number := range end {
			n += number - s.next[name]
		}
		return n
	}(); left > 0; {
		e, err := s.reader.next()
		if err != nil {
			return fmt.Errorf("at %v of %v: %w", s.next, end, err)
		}
		if e.Type == "checkpoint" {
			continue
		}
		var name string
		var number int
		if _, err := fmt.Sscan(e.Data, &name, &number); err != nil || e.Type != "message" || number != s.next[name] || number >= end[name] {
			return fmt.Errorf("at %v of %v: got %.100v", s.next, end, e)
		}
		s.next[name]++
		left--
	}
	return nil
}

// narrow gives a socket the small packets and the small window of a distant client. Over the loopback interface
// the kernel would buffer megabytes for a client that reads nothing.
func narrow(_, _ string, c syscall.RawConn) error {
	var refused error
	err := c.Control(func(fd uintptr) {
		refused = errors.Join(
			syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096),
			syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_MAXSEG, 1460))
	})
	return errors.Join(err, refused)
}
