package stream

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"syscall"
	"time"
)

// connection is the output over an HTTP/1 connection that was taken over from net/http. So an idle stream does
// without the buffers and the goroutine of net/http.
type connection struct {
	net.Conn
	head    []byte // the head of the response, until it is sent
	chunked bool   // HTTP/1.1; with HTTP/1.0 the end of the connection ends the response
	timeout time.Duration
	metrics *metrics
	forget  func() // called before the connection is closed

	// The fields below serve writes that do not wait. raw is nil where these are impossible (TLS).
	raw   syscall.RawConn
	write func(fd uintptr) bool
	next  []byte // the bytes that write writes
	n     int    // the number of bytes that write wrote
	err   error  // the error of the last write
}

// takeOver takes the connection of a request over from net/http, for a response with the headers that header
// returns; header runs once the connection is taken over. The connection ends when the client takes nothing
// for the time-out, whether the client does not read or its machine is gone. The error is
// [http.ErrNotSupported] where a connection cannot be taken over.
func takeOver(w http.ResponseWriter, req *http.Request, header func() http.Header, timeout time.Duration, m *metrics) (*connection, error) {
	if req.ProtoMajor != 1 {
		return nil, http.ErrNotSupported
	}
	conn, _, err := http.NewResponseController(w).Hijack() // what a client sends after its request is dropped
	if err != nil {
		return nil, fmt.Errorf("take over the connection: %w", err)
	}
	o := &connection{Conn: conn, chunked: req.ProtoMinor > 0, timeout: timeout, metrics: m}
	o.head = o.headOf(header())
	o.direct()
	setUserTimeout(conn, timeout*3/2) // longer than the write time-out, so that a client that is alive and does not read does not count as gone
	if tcp, ok := innermost(conn).(interface {
		SetReadBuffer(bytes int) error
		SetWriteBuffer(bytes int) error
	}); ok {
		_ = tcp.SetReadBuffer(receiveBuffer)
		_ = tcp.SetWriteBuffer(sendBuffer)
	}
	return o, nil
}

// receiveBuffer bounds the kernel's receive buffer of a connection, in bytes; Linux doubles it. Nobody reads what a
// client sends after its request, so the buffer stays full. Without the bound it would take 128 KiB.
const receiveBuffer = 4 << 10

// sendBuffer bounds the kernel's send buffer of a connection, in bytes; Linux doubles it. Without the bound it
// would grow to megabytes. Then a client that reads slowly but steadily would count as stalled, because the
// kernel accepts more bytes only when a third of the buffer is free.
const sendBuffer = 64 << 10

// innermost returns the connection below TLS and other layers.
func innermost(conn net.Conn) net.Conn {
	for {
		layer, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			return conn
		}
		conn = layer.NetConn()
	}
}

// headOf returns the head of the response. The stream is the last response on its connection.
func (o *connection) headOf(header http.Header) []byte {
	for _, name := range []string{"Content-Length", "Content-Encoding", "Transfer-Encoding", "Trailer"} {
		header.Del(name) // a middleware set it for a body that it would have written
	}
	header.Set("Connection", "close")
	header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	var b bytes.Buffer
	if o.chunked {
		b.WriteString("HTTP/1.1 200 OK\r\n")
		header.Set("Transfer-Encoding", "chunked")
	} else {
		b.WriteString("HTTP/1.0 200 OK\r\n")
	}
	_ = header.Write(&b) // a write to memory does not fail
	b.WriteString("\r\n")
	return b.Bytes()
}

// chunk makes an HTTP chunk (RFC 9112, section 7.1) of the buffer's bytes. Its head goes into the headroom.
func chunk(b []byte) []byte {
	const digits = "0123456789abcdef"
	at := headroom - 2
	copy(b[at:], "\r\n")
	for size := len(b) - headroom; size > 0; size >>= 4 {
		at--
		b[at] = digits[size&15]
	}
	return append(b, "\r\n"...)[at:]
}

func (o *connection) send(b []byte) ([]byte, error) {
	if o.chunked {
		return o.writeNow(chunk(b))
	}
	return o.writeNow(b[headroom:])
}

func (o *connection) sendLarge(l *large) ([]byte, error) {
	if o.chunked {
		return o.writeNow(l.chunk)
	}
	return o.writeNow(l.text)
}

// writeNow writes as many bytes as the client takes without waiting, and returns the rest.
func (o *connection) writeNow(b []byte) ([]byte, error) {
	if o.head != nil {
		b, o.head = append(o.head, b...), nil
	}
	if o.raw == nil {
		return b, nil
	}
	o.next, o.n, o.err = b, 0, nil
	err := o.raw.Write(o.write)
	o.next = nil
	if err == nil && o.err != nil {
		err = &net.OpError{Op: "write", Net: "tcp", Addr: o.RemoteAddr(), Err: os.NewSyscallError("write", o.err)}
	}
	o.metrics.bytes.Add(float64(o.n))
	return b[o.n:], err
}

func (o *connection) finish(b []byte) error {
	for piece := range slices.Chunk(b, writePiece) {
		if err := o.SetWriteDeadline(time.Now().Add(o.timeout)); err != nil {
			return err
		}
		n, err := o.Write(piece)
		o.metrics.bytes.Add(float64(n))
		if err != nil {
			return err
		}
	}
	return o.SetWriteDeadline(time.Time{}) // otherwise a later send would fail
}

func (o *connection) close(clean bool) (whole bool) {
	whole = clean
	tcp, ok := innermost(o.Conn).(interface{ SetLinger(seconds int) error })
	switch {
	case clean && o.chunked:
		whole = o.finish([]byte("0\r\n\r\n")) == nil // the last chunk
	case !clean && ok:
		_ = tcp.SetLinger(0) // the kernel need not keep the bytes that the client has not taken
	}
	o.forget()
	_ = o.Close()
	return whole
}

func (o *connection) leave() {}

func (o *connection) cut() { _ = o.Close() }

// maxSaid is how many bytes a client may send after its request. A client has no reason to send any.
const maxSaid = 64 << 10

// watchForEnd makes the stream end when its client closes the connection.
func (o *connection) watchForEnd(w *watcher, sub *subscription) {
	if forget, ok := w.watchConnection(o.Conn, sub); ok {
		o.forget = forget
		return
	}
	o.forget = func() {}
	go func() {
		defer sub.end(errGone)
		b := make([]byte, 16)
		for said := 0; said < maxSaid; {
			n, err := o.Read(b)
			if err != nil {
				return
			}
			said += n
		}
	}()
}
