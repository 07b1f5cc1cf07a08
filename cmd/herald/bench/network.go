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
	stalledRead = 4 << 10 // bytes that the kernel takes for a stalled stream
)

// network connects streams and hands them what comes.
type network interface {
	// connect opens a connection from the source address, if there is one, and sends the request.
	connect(ctx context.Context, s *client, source net.IP, request []byte) error
	// stop closes all connections and waits for the network's goroutines.
	stop()
}

// sockets is the network of all systems, and of TLS: a goroutine for each stream.
type sockets struct {
	address string
	tls     *tls.Config // nil: none
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
	s.connected(c)
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
		if !n.received(s, turn, buffer[:count], err, now) {
			return
		}
	}
}

// received tells whether to read on.
func (*sockets) received(s *client, turn int32, p []byte, err error, now int64) bool {
	s.shard.mu.Lock()
	defer s.shard.mu.Unlock()
	if s.turn != turn || s.conn == nil {
		return false
	}
	if e := s.receive(p, now); e != nil {
		err = e
	}
	if err != nil {
		s.shard.ended(s, err)
		return false
	}
	return !s.stalled || !s.ready
}

func (n *sockets) stop() {
	for _, s := range n.streams {
		s.shard.mu.Lock()
		s.disconnect()
		s.shard.mu.Unlock()
	}
	n.readers.Wait()
}

// explain says what to do about an error of a connection. hopeless tells that another try would
// fail the same way.
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

// isRefusal tells a refusal from a connection that has broken.
func isRefusal(err error) bool {
	_, ok := errors.AsType[*refusalError](err)
	return ok || errors.Is(err, errFraming) || errors.Is(err, tail.ErrEventTooLarge)
}
