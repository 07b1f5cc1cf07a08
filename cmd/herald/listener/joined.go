package listener

import (
	"errors"
	"net"
	"sync"
)

// joined accepts the connections of several listeners. Each listener has a goroutine, which ends when joined is closed.
type joined struct {
	listeners []net.Listener
	accepted  chan accepted
	closed    chan struct{}
	closing   sync.Once
	running   sync.WaitGroup
}

// accepted is the result of an Accept.
type accepted struct {
	conn net.Conn
	err  error
}

// join returns a listener of all the listeners, which its Close closes.
func join(listeners []net.Listener) net.Listener {
	j := &joined{listeners: listeners, accepted: make(chan accepted), closed: make(chan struct{})}
	for _, l := range listeners {
		j.running.Go(func() { j.accept(l) })
	}
	return j
}

// accept passes the connections and the errors of one listener on.
func (j *joined) accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		select {
		case j.accepted <- accepted{conn, err}:
		case <-j.closed:
			if err == nil {
				_ = conn.Close()
			}
			return
		}
	}
}

// Accept implements [net.Listener].
func (j *joined) Accept() (net.Conn, error) {
	select {
	case a := <-j.accepted:
		return a.conn, a.err
	case <-j.closed:
		return nil, net.ErrClosed
	}
}

// Close implements [net.Listener].
func (j *joined) Close() error {
	var errs []error
	j.closing.Do(func() {
		close(j.closed)
		for _, l := range j.listeners {
			errs = append(errs, l.Close())
		}
		j.running.Wait()
	})
	return errors.Join(errs...)
}

// Addr returns the address of the first listener.
func (j *joined) Addr() net.Addr { return j.listeners[0].Addr() }

// addresses returns the addresses of a listener, of which joined has several.
func addresses(l net.Listener) []net.Addr {
	switch l := l.(type) {
	case *joined:
		var all []net.Addr
		for _, one := range l.listeners {
			all = append(all, one.Addr())
		}
		return all
	case *Limited:
		return addresses(l.Listener)
	}
	return []net.Addr{l.Addr()}
}

// OnLoopback says whether all clients of the listener are on this machine and come over TCP.
func OnLoopback(l net.Listener) bool {
	for _, at := range addresses(l) {
		if !LoopbackOnly(at.String()) {
			return false
		}
	}
	return true
}
