package listener

import (
	"container/list"
	"net"
	"net/http"
	"net/netip"
	"sync"
)

// Limited is a listener that bounds how many of its connections are open. Clients that open many
// connections can then not use up the open files that the rest of the process needs.
//
// While all places are taken, a new connection takes the place of a connection that waits for a
// request, either after an answer or in the middle of a request's header. If no connection waits for
// a request, Accept blocks until one does or one closes. A connection with a
// request or a stream under way is never closed.
//
// The methods may be called concurrently. netutil.LimitListener does not close idle connections, and
// it hides that its connections are TCP connections: without that knowledge an idle stream costs a
// goroutine and a buffer.
type Limited struct {
	net.Listener
	most    int
	onEvict func()

	mu      sync.Mutex
	room    sync.Cond // signaled when there may be room, and when the listener is closed
	open    int
	closed  bool
	waiting waiting
}

// Limit returns a listener that accepts connections from l and has at most that many of them open.
// It calls onEvict for each connection that it closes to make room; onEvict must not block and must
// not call the listener. The server must report the states of connections to [Limited.ConnState]:
// without those reports no connection is closed to make room.
func Limit(l net.Listener, most int, onEvict func()) *Limited {
	limited := &Limited{Listener: l, most: most, onEvict: onEvict, waiting: newWaiting()}
	limited.room.L = &limited.mu
	return limited
}

// Open returns how many connections are open.
func (l *Limited) Open() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open
}

// Accept implements [net.Listener]. Connections that are not TCP connections are not counted.
func (l *Limited) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return conn, nil
	}
	if !l.takePlace() {
		_ = conn.Close()
		return nil, net.ErrClosed
	}
	return &limitedConn{TCPConn: tcp, listener: l, from: networkOf(conn.RemoteAddr())}, nil
}

// takePlace waits for a place. It returns false if the listener was closed.
func (l *Limited) takePlace() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.open >= l.most && !l.closed {
		c := l.waiting.first()
		if c == nil {
			l.room.Wait()
			continue
		}
		// The lock is held while the connection closes. Once ConnState has reported that a
		// connection has a request, that connection stays open.
		_ = c.TCPConn.Close()
		l.returnPlaceLocked(c)
		l.onEvict()
	}
	if l.closed {
		return false
	}
	l.open++
	return true
}

// returnPlaceLocked gives the connection's place back. Only the first call for a connection counts.
func (l *Limited) returnPlaceLocked(c *limitedConn) {
	if c.closed {
		return
	}
	c.closed = true
	l.waiting.remove(c)
	l.open--
	l.room.Signal()
}

// ConnState is for the server's [http.Server.ConnState]. net/http calls a connection active once the
// header of a request is complete (HTTP/1) or while it has a stream (HTTP/2). Before that, and between
// requests, the connection is new or idle: it waits for a request.
func (l *Limited) ConnState(conn net.Conn, state http.ConnState) {
	c, ok := innermost(conn).(*limitedConn)
	if !ok {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting.remove(c)
	if (state == http.StateNew || state == http.StateIdle) && !c.closed {
		l.waiting.add(c)
		l.room.Signal()
	}
}

// Close implements [net.Listener]. It ends an Accept that waits for a place.
func (l *Limited) Close() error {
	l.mu.Lock()
	l.closed = true
	l.room.Signal()
	l.mu.Unlock()
	return l.Listener.Close()
}

// limitedConn gives its place back when it is closed. Only the first Close counts.
type limitedConn struct {
	*net.TCPConn
	listener *Limited
	from     netip.Prefix

	// The listener's lock guards these:
	closed bool
	place  *list.Element // its element in the list of its network; nil: it does not wait for a request
	since  uint64        // its turn among the connections that wait for a request; lower is earlier
}

// Close implements [net.Conn].
func (c *limitedConn) Close() error {
	err := c.TCPConn.Close()
	c.listener.mu.Lock()
	defer c.listener.mu.Unlock()
	c.listener.returnPlaceLocked(c)
	return err
}
