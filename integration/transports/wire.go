package main

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// headerBytes is what each segment has besides its data: IPv4 20 bytes, TCP 20, the option of time stamps 12.
const headerBytes = 52

// wire counts the bytes of the clients' connections, as the kernel counts them (TCP_INFO in tcp(7)).
type wire struct {
	mu     sync.Mutex
	open   map[*wireConn]struct{}
	closed uint64 // bytes of the connections that are closed
}

// total returns the bytes of all connections so far, in both directions.
func (w *wire) total() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	sum := w.closed
	for c := range w.open {
		sum += c.bytes()
	}
	return sum
}

// wireConn is a connection whose bytes count.
type wireConn struct {
	*net.TCPConn

	wire *wire
	once sync.Once
	cut  atomic.Bool // the tool has reset it
}

// bytes returns the connection's bytes so far. Both directions count, with the headers of all segments. Acknowledged
// bytes are counted, so a byte that is sent twice counts once.
func (c *wireConn) bytes() (sum uint64) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0
	}
	_ = raw.Control(func(fd uintptr) {
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			sum = info.Bytes_acked + info.Bytes_received + headerBytes*(uint64(info.Segs_in)+uint64(info.Segs_out))
		}
	})
	return sum
}

func (c *wireConn) Close() error {
	c.once.Do(func() {
		last := c.bytes()
		c.wire.mu.Lock()
		defer c.wire.mu.Unlock()
		delete(c.wire.open, c)
		c.wire.closed += last
	})
	return c.TCPConn.Close()
}

// reset closes the connection by a TCP RST. The client's port is free at once.
func (c *wireConn) reset() {
	c.cut.Store(true) // first, so that the client's error comes later
	_ = c.SetLinger(0)
	_ = c.Close()
}

// dialer connects as Chrome does: it probes quiet connections every 45 s. Segments are as large as on Ethernet, in both
// directions, although the loopback interface would carry larger ones.
var dialer = net.Dialer{
	KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 45 * time.Second, Interval: 45 * time.Second},
	Control: func(_, _ string, raw syscall.RawConn) error {
		var refused error
		err := raw.Control(func(fd uintptr) { refused = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG, 1460) })
		return errors.Join(err, refused)
	},
}

// transport returns what makes the client's connections.
func (c *client) transport() *http.Transport {
	t := c.load.transport
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!t.http2)
	protocols.SetHTTP2(t.http2)
	return &http.Transport{
		Protocols: protocols, DisableKeepAlives: t.newConn, DisableCompression: true,
		// The certificate is made for the session. A phone that comes back resumes its TLS session.
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ClientSessionCache: tls.NewLRUClientSessionCache(1)}, //nolint:gosec // the server is this program's child
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			select {
			case c.load.dials <- struct{}{}:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
			defer func() { <-c.load.dials }()
			conn, err := dialer.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			counted := &wireConn{TCPConn: conn.(*net.TCPConn), wire: &c.load.wire} //nolint:forcetypeassert // of the network tcp
			c.load.wire.mu.Lock()
			c.load.wire.open[counted] = struct{}{}
			c.load.wire.mu.Unlock()
			c.mu.Lock()
			c.conn = counted
			c.mu.Unlock()
			return counted, nil
		},
	}
}
