package listener

import (
	"container/list"
	"context"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"syscall"
)

// Limited is a listener that bounds how many of its connections are open. Clients that open many
// connections can then not use up the open files that the rest of the process needs.
//
// While all places are taken, a new connection takes the place of a connection that waits for its
// client: for a request, in the middle of a request's header, or to take an answer. If no connection
// waits for its client, Accept blocks until one does or one closes. A connection is never closed while
// it is held ([Limited.Hold]), nor once a handler has taken it over.
//
// The state [http.StateActive] does not protect a connection: a client of HTTP/2 keeps a connection in
// that state for as long as it takes no byte of an answer, and it can do that without any permission.
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

// Accept implements [net.Listener]. Connections over something else than TCP and Unix sockets are not counted.
func (l *Limited) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	s, ok := conn.(socket)
	if !ok {
		return conn, nil
	}
	if !l.takePlace() {
		_ = conn.Close()
		return nil, net.ErrClosed
	}
	return &limitedConn{socket: s, listener: l, from: networkOf(conn.RemoteAddr())}, nil
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
		// The lock is held while the connection closes. Once a connection is held, it stays open.
		_ = c.socket.Close()
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

// ConnState is for the server's [http.Server.ConnState].
func (l *Limited) ConnState(conn net.Conn, state http.ConnState) {
	c, ok := innermost(conn).(*limitedConn)
	if !ok {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch state {
	case http.StateNew, http.StateIdle:
		l.waiting.remove(c)
		l.waitLocked(c)
	case http.StateHijacked:
		l.waiting.remove(c)
		c.holds++ // until it closes
	case http.StateActive, http.StateClosed:
	}
}

// waitLocked puts the connection into waiting, unless it is held.
func (l *Limited) waitLocked(c *limitedConn) {
	if !c.closed && c.holds == 0 {
		l.waiting.add(c)
		l.room.Signal()
	}
}

// ConnContext is for the server's [http.Server.ConnContext]. By it, [Limited.Hold] finds the connection
// of a request.
func (l *Limited) ConnContext(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, innermost(conn))
}

type connKey struct{}

// Hold keeps the connection of a request open until release is called. ctx is the context of the request.
// A handler holds the connection while it runs, and while it has an HTTP/2 stream. It releases the
// connection when only the client has something left to do. release must be called once.
func (l *Limited) Hold(ctx context.Context) (release func()) {
	c, ok := ctx.Value(connKey{}).(*limitedConn)
	if !ok {
		return func() {}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting.remove(c)
	c.holds++
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		c.holds--
		l.waitLocked(c)
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

// moveClient notes the address of the client of a proxy. Until then the connection counts as the proxy's.
func (l *Limited) moveClient(c *limitedConn, client net.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	waits := c.place != nil
	l.waiting.remove(c)
	c.from = networkOf(client)
	if waits {
		l.waitLocked(c)
	}
}

// socket is what [net.TCPConn] and [net.UnixConn] have in common. Package stream needs the file descriptor and the
// buffers: without them an idle stream costs a goroutine. net/http needs CloseWrite: without it, a client that still
// sends its request gets a reset connection in place of the refusal.
type socket interface {
	net.Conn
	syscall.Conn
	SetReadBuffer(bytes int) error
	SetWriteBuffer(bytes int) error
	CloseWrite() error
}

// limitedConn gives its place back when it is closed. Only the first Close counts.
type limitedConn struct {
	socket
	listener *Limited

	// The listener's lock guards these:
	from   netip.Prefix
	closed bool
	holds  int           // it stays open while this is not 0
	place  *list.Element // its element in the list of its network; nil: it does not wait for its client
	since  uint64        // its turn among the connections that wait for their clients; lower is earlier
}

// Close implements [net.Conn].
func (c *limitedConn) Close() error {
	err := c.socket.Close()
	c.listener.mu.Lock()
	defer c.listener.mu.Unlock()
	c.listener.returnPlaceLocked(c)
	return err
}

// unixPeer is the address of all clients of a Unix socket. A client chooses the address that the kernel reports: it may
// bind its own socket to a path such as 10.0.0.1:80.
var unixPeer = &net.UnixAddr{Name: "@", Net: "unix"}

// RemoteAddr implements [net.Conn].
func (c *limitedConn) RemoteAddr() net.Addr {
	if _, ok := c.socket.(*net.UnixConn); ok {
		return unixPeer
	}
	return c.socket.RemoteAddr()
}

// SetLinger is [net.TCPConn.SetLinger]. A Unix socket does not linger: its bytes are the client's once they are written.
func (c *limitedConn) SetLinger(seconds int) error {
	if tcp, ok := c.socket.(*net.TCPConn); ok {
		return tcp.SetLinger(seconds)
	}
	return nil
}
