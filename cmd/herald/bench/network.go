package bench

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"

	"herald/cmd/herald/tail"
)

const (
	dialTimeout = 10 * time.Second
	stalledRead = 4 << 10 // receive buffer of a stalled stream in the kernel, in bytes
)

// network connects streams and passes them the bytes that arrive.
type network interface {
	// connect opens a connection and sends the request. A nil source leaves the source address to the
	// system.
	connect(ctx context.Context, s *client, source net.IP, request []byte) error
	// stop closes all connections and waits for the network's goroutines.
	stop()
}

// sockets is the network for TLS, and for systems without epoll. It has a goroutine for each stream.
type sockets struct {
	address string
	tls     *tls.Config // nil: plain TCP
	readers sync.WaitGroup
	streams []*client
}

func (n *sockets) connect(ctx context.Context, s *client, source net.IP, request []byte) error {
	d := net.Dialer{Timeout: dialTimeout}
	if source != nil {
		d.LocalAddr = &net.TCPAddr{IP: source}
	}
	c, err := d.DialContext(ctx, "tcp", n.address)
	if err != nil {
		return err
	}
	if s.stalled {
		if err := c.(*net.TCPConn).SetReadBuffer(stalledRead); err != nil {
			return errors.Join(err, c.Close())
		}
	}
	if n.tls != nil {
		c = tls.Client(c, n.tls)
	}
	if _, err := c.Write(request); err != nil {
		return errors.Join(err, c.Close())
	}
	s.shard.mu.Lock()
	defer s.shard.mu.Unlock()
	s.beginLocked(c)
	turn := s.turn
	n.readers.Go(func() { n.read(s, c, turn) })
	return nil
}

// read reads the connection until it ends, or the stream stalls.
func (n *sockets) read(s *client, c net.Conn, turn int32) {
	buffer := make([]byte, 4<<10)
	for {
		count, err := c.Read(buffer)
		now := time.Now().UnixNano()
		if !n.receive(s, turn, buffer[:count], err, now) {
			return
		}
	}
}

// receive passes the bytes to the stream. It reports whether to read more.
func (*sockets) receive(s *client, turn int32, p []byte, err error, now int64) bool {
	s.shard.mu.Lock()
	defer s.shard.mu.Unlock()
	if s.turn != turn || s.conn == nil {
		return false
	}
	if e := s.receiveLocked(p, now); e != nil {
		err = e
	}
	if err != nil {
		s.shard.handleEndLocked(s, err)
		return false
	}
	return !s.stalled || !s.ready
}

func (n *sockets) stop() {
	for _, s := range n.streams {
		s.shard.mu.Lock()
		s.disconnectLocked()
		s.shard.mu.Unlock()
	}
	n.readers.Wait()
}

// explain says what to do about an error of a connection. hopeless reports that another try would fail
// in the same way.
func explain(address string, err error) (hopeless bool, explained error) {
	switch {
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return true, fmt.Errorf("no free port, or an address in --source-addresses is not of this machine: give more of its addresses, each has some 28,000 ports: %w", err)
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return true, fmt.Errorf("the limit of open files is reached: lower --streams or raise it, with ulimit -n: %w", err)
	case errors.Is(err, syscall.ECONNREFUSED):
		return false, fmt.Errorf("nothing listens at %s: is --url right, and does Herald run there?", address)
	}
	if e, ok := errors.AsType[*net.OpError](err); ok {
		err = e.Err
	}
	return false, fmt.Errorf("connect to %s: %w", address, err)
}

// isRefusal reports whether the error is an answer that another try would get again, not a broken
// connection.
func isRefusal(err error) bool {
	_, ok := errors.AsType[*refusalError](err)
	return ok || errors.Is(err, errFraming) || errors.Is(err, tail.ErrEventTooLarge)
}
