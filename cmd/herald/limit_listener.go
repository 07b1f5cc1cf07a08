package main

import (
	"container/list"
	"net"
	"net/http"
	"net/netip"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// limitedListener has so many connections open at most, so that whoever opens connections cannot take
// the open files that Kafka and the admin listener need. Who comes beyond gets the place of a connection
// that waits for a request, be it a header that does not end or one kept alive (see [waiting]). If there
// is none, it waits until there is one or a connection is closed: one with a request or a stream is
// never closed. netutil.LimitListener makes no room, and hides that its connections are TCP's, without
// which an idle stream costs a goroutine and a buffer.
type limitedListener struct {
	net.Listener
	most    int
	evicted prometheus.Counter

	mu      sync.Mutex
	room    sync.Cond // there may be room, or the listener is closed
	open    int
	closed  bool
	waiting waiting
}

func limitConnections(l net.Listener, most int) *limitedListener {
	limited := &limitedListener{Listener: l, most: most, waiting: waiting{networks: make(map[netip.Prefix]*network)}, evicted: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "herald_http_connections_evicted_total", Help: "Connections closed while they waited for a request, to make room for new ones.",
	})}
	limited.room.L = &limited.mu
	return limited
}

// collectors are the listener's metrics.
func (l *limitedListener) collectors() []prometheus.Collector {
	return []prometheus.Collector{l.evicted, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "herald_http_connections", Help: "Connections of the public listener that are open.",
	}, func() float64 { return float64(l.connections()) })}
}

func (l *limitedListener) connections() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open
}

// Accept implements [net.Listener].
func (l *limitedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return conn, nil // not by TCP: Herald has no such listener
	}
	if !l.takePlace() {
		_ = conn.Close()
		return nil, net.ErrClosed
	}
	return &limitedConn{TCPConn: tcp, listener: l, from: networkOf(conn.RemoteAddr())}, nil
}

// takePlace returns false if the listener was closed.
func (l *limitedListener) takePlace() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.open >= l.most && !l.closed {
		c := l.waiting.first()
		if c == nil {
			l.room.Wait()
			continue
		}
		// Under the lock: once connState has said that a request is there, its connection stays.
		_ = c.TCPConn.Close()
		l.forget(c)
		l.evicted.Inc()
	}
	if l.closed {
		return false
	}
	l.open++
	return true
}

// forget gives the place of a connection back, once.
func (l *limitedListener) forget(c *limitedConn) {
	if c.closed {
		return
	}
	c.closed = true
	l.waiting.remove(c)
	l.open--
	l.room.Signal()
}

// connState is the server's [http.Server.ConnState]. A connection is new or idle until the header of a
// request is complete (HTTP/1), or while it has no stream (HTTP/2): net/http calls it active only then.
func (l *limitedListener) connState(conn net.Conn, state http.ConnState) {
	if layer, ok := conn.(interface{ NetConn() net.Conn }); ok { // TLS
		conn = layer.NetConn()
	}
	c, ok := conn.(*limitedConn)
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

// Close implements [net.Listener].
func (l *limitedListener) Close() error {
	l.mu.Lock()
	l.closed = true
	l.room.Signal()
	l.mu.Unlock()
	return l.Listener.Close()
}

// limitedConn gives its place back when it is closed, however often that is.
type limitedConn struct {
	*net.TCPConn
	listener *limitedListener
	from     netip.Prefix

	// Under the listener's lock:
	closed bool
	place  *list.Element // in its network; nil: it does not wait for a request
	since  uint64        // of its turn among those that wait
}

// Close implements [net.Conn].
func (c *limitedConn) Close() error {
	err := c.TCPConn.Close()
	c.listener.mu.Lock()
	defer c.listener.mu.Unlock()
	c.listener.forget(c)
	return err
}
