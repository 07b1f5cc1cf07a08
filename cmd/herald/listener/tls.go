package listener

import (
	"context"
	"crypto/tls"
	"net"
)

// TLS returns a listener whose connections are *[tls.Conn] over the connections of l, as [tls.NewListener]
// does. Each handshake runs on a goroutine of its own, which ends with the handshake.
//
// A handshake needs 16 KiB of stack, and net/http keeps the goroutine that it has made the handshake on, with
// its stack, for as long as an HTTP/2 connection is open. Once the handshake is under way elsewhere, the
// HandshakeContext of net/http only waits for its result.
func TLS(l net.Listener, config *tls.Config) net.Listener { return &tlsListener{l, config} }

type tlsListener struct {
	net.Listener
	config *tls.Config
}

// Accept implements [net.Listener]. The handshake of the connection is under way. The caller must bound its
// duration by a deadline of the connection.
func (l *tlsListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	reading := make(chan struct{})
	below := &firstRead{Conn: conn, begins: reading}
	secure := tls.Server(below, l.config)
	go func() {
		_ = secure.HandshakeContext(context.Background()) // each later call returns the same error
	}()
	<-reading // the handshake holds the connection's lock now: a call of net/http cannot come first
	return secure, nil
}

// firstRead is a connection that reports its first Read.
type firstRead struct {
	net.Conn
	begins chan struct{} // closed by the first Read; nil afterwards
}

// Read implements [net.Conn]. Package tls makes one call at a time.
func (c *firstRead) Read(b []byte) (int, error) {
	if c.begins != nil {
		close(c.begins)
		c.begins = nil
	}
	return c.Conn.Read(b)
}

// NetConn returns the connection below, as [tls.Conn.NetConn] does.
func (c *firstRead) NetConn() net.Conn { return c.Conn }

// innermost returns the connection below all layers.
func innermost(conn net.Conn) net.Conn {
	for {
		layer, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			return conn
		}
		conn = layer.NetConn()
	}
}
