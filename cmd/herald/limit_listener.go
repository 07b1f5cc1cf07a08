package main

import (
	"net"
	"sync"
	"sync/atomic"
)

// limitedListener has so many connections open at most: who comes beyond waits to be accepted, with
// the kernel, until one is closed. So whoever opens connections cannot take the open files that Kafka
// and the admin listener need. netutil.LimitListener would do the same, but hides that its
// connections are TCP's, without which an idle stream costs a goroutine and a buffer.
type limitedListener struct {
	net.Listener
	places  chan struct{}
	closing sync.Once
	closed  chan struct{}
}

func limitConnections(l net.Listener, most int) *limitedListener {
	return &limitedListener{Listener: l, places: make(chan struct{}, most), closed: make(chan struct{})}
}

// Accept implements [net.Listener].
func (l *limitedListener) Accept() (net.Conn, error) {
	select {
	case l.places <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	conn, err := l.Listener.Accept()
	if err != nil {
		<-l.places
		return nil, err
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		return &limitedConn{TCPConn: tcp, listener: l}, nil
	}
	<-l.places
	return conn, nil // not by TCP: Herald has no such listener
}

// Close implements [net.Listener].
func (l *limitedListener) Close() error {
	l.closing.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// limitedConn gives its place back when it is closed, however often that is.
type limitedConn struct {
	*net.TCPConn
	listener *limitedListener
	closed   atomic.Bool
}

// Close implements [net.Conn].
func (c *limitedConn) Close() error {
	err := c.TCPConn.Close()
	if c.closed.CompareAndSwap(false, true) {
		<-c.listener.places
	}
	return err
}
