package listener

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/pires/go-proxyproto"
)

const (
	// proxyHeaderTimeout is the time that a connection has for its PROXY header. The specification asks for 3 s or more
	// (section 2), so that a lost packet can be sent again.
	proxyHeaderTimeout = 5 * time.Second
	// proxyHeaderBuffer holds the longest header of version 1, 107 bytes, which must come in one piece. The library
	// reads headers of version 2 with up to 4 KiB through it.
	proxyHeaderBuffer = 256
)

// Errors about PROXY headers.
var (
	ErrNoProxyHeader      = errors.New("the connection of a trusted proxy does not begin with a PROXY header")
	ErrForeignProxyHeader = errors.New("a connection begins with a PROXY header, but its address is not a trusted proxy's")
)

// ProxyProtocol returns a listener whose connections begin with a PROXY header
// (https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt), version 1 or 2, if trusted says so about their peer. The
// header's source is then the connection's RemoteAddr. Connections of other peers must not have a header.
//
// The header is read when the connection is first used, on its own goroutine, so that a slow peer delays nobody. A
// connection with a wrong header fails, and no byte is written to it. refused is called with the reason, unless the peer
// has sent nothing, as a health check that only connects. refused must not block.
func ProxyProtocol(l *Limited, trusted func(peer net.Addr) bool, refused func(peer net.Addr, err error)) net.Listener {
	return &proxyListener{l, trusted, refused}
}

type proxyListener struct {
	*Limited
	trusted func(net.Addr) bool
	refused func(net.Addr, error)
}

// Accept implements [net.Listener].
func (l *proxyListener) Accept() (net.Conn, error) {
	conn, err := l.Limited.Accept()
	if err != nil {
		return nil, err
	}
	limited, ok := conn.(*limitedConn)
	if !ok {
		return conn, nil
	}
	return &proxiedConn{limitedConn: limited, listener: l, early: bufio.NewReaderSize(limited, proxyHeaderBuffer)}, nil
}

// proxiedConn is a connection whose first bytes may be a PROXY header.
type proxiedConn struct {
	*limitedConn
	listener *proxyListener

	once   sync.Once
	client net.Addr      // nil: the peer itself
	err    error         // of the header
	early  *bufio.Reader // has the bytes that came with the header; nil once they are read
}

// NetConn returns the connection below, as [tls.Conn.NetConn] does.
func (c *proxiedConn) NetConn() net.Conn { return c.limitedConn }

// readHeader reads the header once, and returns its error.
func (c *proxiedConn) readHeader() error {
	c.once.Do(func() {
		peer := c.limitedConn.RemoteAddr()
		header, err := proxyproto.ReadHeaderTimeout(c.limitedConn, c.early, proxyHeaderTimeout)
		if _, broken := err.(net.Error); broken { //nolint:errorlint // an error about the header may wrap one of the network
			c.err = err
			return
		}
		c.client, c.err = clientOf(header, err, c.listener.trusted(peer))
		switch {
		case c.err == nil && c.client != nil:
			c.limitedConn.listener.moveClient(c.limitedConn, c.client)
		case c.err != nil && (c.early.Buffered() > 0 || !errors.Is(err, proxyproto.ErrNoProxyProtocol)): // the peer has sent something
			c.listener.refused(peer, c.err)
		}
	})
	return c.err
}

// clientOf returns the address that a header names. It is nil if the header names none: the proxy itself has connected
// (LOCAL, as for a health check), or it does not know the client's address (UNKNOWN, a Unix socket).
func clientOf(header *proxyproto.Header, err error, trusted bool) (net.Addr, error) {
	none := errors.Is(err, proxyproto.ErrNoProxyProtocol)
	switch {
	case none && trusted:
		return nil, ErrNoProxyHeader
	case none:
		return nil, nil
	case !trusted:
		return nil, ErrForeignProxyHeader
	case err != nil:
		return nil, fmt.Errorf("the connection of a trusted proxy has a wrong PROXY header: %w", err)
	case header.Command.IsLocal():
		return nil, nil
	}
	switch source := header.SourceAddr.(type) {
	case *net.TCPAddr:
		return source, nil
	case *net.UDPAddr: // of HTTP/3
		return &net.TCPAddr{IP: source.IP, Port: source.Port}, nil
	}
	return nil, nil
}

// Read implements [net.Conn].
func (c *proxiedConn) Read(b []byte) (int, error) {
	if err := c.readHeader(); err != nil {
		return 0, err
	}
	if c.early != nil {
		if c.early.Buffered() > 0 {
			return c.early.Read(b)
		}
		c.early = nil // an idle stream does without the buffer
	}
	return c.limitedConn.Read(b)
}

// Write implements [net.Conn].
func (c *proxiedConn) Write(b []byte) (int, error) {
	if err := c.readHeader(); err != nil {
		return 0, err
	}
	return c.limitedConn.Write(b)
}

// RemoteAddr returns the client's address. It waits for the header.
func (c *proxiedConn) RemoteAddr() net.Addr {
	_ = c.readHeader()
	if c.client != nil {
		return c.client
	}
	return c.limitedConn.RemoteAddr()
}
