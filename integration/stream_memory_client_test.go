package integration

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// memoryOpening is how many connections are being opened at a time.
const memoryOpening = 64

// memoryClients are the clients of a server in BenchmarkStreamMemory. They count what arrives and keep nothing.
type memoryClients struct {
	address string
	tls     *tls.Config // nil: without TLS
	count   int         // of streams

	mu                  sync.Mutex
	conns               []net.Conn
	checkpoints, events int
	err                 error // the first error of a connection before close
	closed              bool
}

// openMemoryClients opens that many streams and waits until each has got its checkpoint.
func openMemoryClients(ctx context.Context, b *testing.B, address string, way memoryWay, count int) *memoryClients {
	b.Helper()
	c := &memoryClients{address: address, tls: way.tls, count: count}
	b.Cleanup(c.close)
	room := make(chan struct{}, memoryOpening)
	var opening sync.WaitGroup
	for first := 0; first < count; first += way.streams {
		room <- struct{}{}
		opening.Go(func() {
			defer func() { <-room }()
			client := &memoryClient{all: c, first: first, streams: way.streams}
			err := client.connect(ctx)
			if err == nil {
				err = way.open(client)
			}
			if err != nil {
				c.fail(fmt.Errorf("client %d: %w", first, err))
			}
		})
	}
	opening.Wait()
	c.await(b, "a checkpoint", &c.checkpoints)
	return c
}

// await waits until the count has reached the number of streams. The error of a wait that takes too long names what.
func (c *memoryClients) await(b *testing.B, what string, count *int) {
	b.Helper()
	for deadline := time.Now().Add(2 * patience); ; time.Sleep(20 * time.Millisecond) {
		c.check(b)
		c.mu.Lock()
		got := *count
		c.mu.Unlock()
		if got >= c.count {
			return
		}
		if time.Now().After(deadline) {
			b.Fatalf("%d of %d streams have %s", got, c.count, what)
		}
	}
}

// check fails the benchmark if a connection has failed.
func (c *memoryClients) check(b *testing.B) {
	b.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		b.Fatal(c.err)
	}
}

// note counts the events in what a client has received. The server writes each event in one piece.
func (c *memoryClients) note(b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.checkpoints += bytes.Count(b, []byte("event: checkpoint\n"))
	c.events += bytes.Count(b, []byte(`data: {"text":`))
}

func (c *memoryClients) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil && !c.closed {
		c.err = err
	}
}

// close closes all connections.
func (c *memoryClients) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, conn := range c.conns {
		_ = conn.Close()
	}
}

// memoryClient is one connection.
type memoryClient struct {
	all            *memoryClients
	first, streams int // its users
	conn           net.Conn
}

// browserHeaders are the headers of the request for an EventSource in Chrome.
var browserHeaders = []string{
	"accept", "text/event-stream", "accept-encoding", "gzip, deflate, br, zstd", "accept-language", "en-US,en;q=0.9", "cache-control", "no-cache",
	"referer", "https://localhost/", "sec-ch-ua", `"Chromium";v="142", "Not_A Brand";v="99"`, "sec-ch-ua-mobile", "?0", "sec-ch-ua-platform", `"Linux"`,
	"sec-fetch-dest", "empty", "sec-fetch-mode", "cors", "sec-fetch-site", "same-origin",
	"user-agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36",
}

func (c *memoryClient) connect(ctx context.Context) (err error) {
	if c.conn, err = new(net.Dialer).DialContext(ctx, "tcp", c.all.address); err != nil {
		return err
	}
	c.all.mu.Lock()
	c.all.conns = append(c.all.conns, c.conn)
	c.all.mu.Unlock()
	if c.all.tls == nil {
		return nil
	}
	secure := tls.Client(c.conn, c.all.tls)
	c.conn = secure
	return secure.HandshakeContext(ctx)
}

func (c *memoryClient) openHTTP1() error {
	var request strings.Builder
	fmt.Fprintf(&request, "GET /events?user=%s HTTP/1.1\r\nHost: localhost\r\n", user(c.first))
	for i := 0; i < len(browserHeaders); i += 2 {
		fmt.Fprintf(&request, "%s: %s\r\n", browserHeaders[i], browserHeaders[i+1])
	}
	request.WriteString("\r\n")
	if _, err := io.WriteString(c.conn, request.String()); err != nil {
		return err
	}
	go func() {
		b := make([]byte, 1024)
		for {
			n, err := c.conn.Read(b)
			if err != nil {
				c.all.fail(err)
				return
			}
			c.all.note(b[:n])
		}
	}()
	return nil
}

// openHTTP2 opens all streams of the connection in one write.
func (c *memoryClient) openHTTP2() error {
	scheme := "https"
	if c.all.tls == nil {
		scheme = "http"
	}
	var start, block bytes.Buffer
	start.WriteString(http2.ClientPreface)
	frames, fields := http2.NewFramer(&start, nil), hpack.NewEncoder(&block)
	err := errors.Join(frames.WriteSettings(), frames.WriteWindowUpdate(0, 1<<30)) // as much as the streams of the connection may send
	for i := range c.streams {
		block.Reset()
		head := append([]string{":method", http.MethodGet, ":scheme", scheme, ":authority", "localhost", ":path", "/events?user=" + user(c.first+i)}, browserHeaders...)
		for j := 0; j < len(head); j += 2 {
			err = errors.Join(err, fields.WriteField(hpack.HeaderField{Name: head[j], Value: head[j+1]}))
		}
		id := uint32(1 + 2*i)
		err = errors.Join(err, frames.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true}))
	}
	if err != nil {
		return err
	}
	if _, err := c.conn.Write(start.Bytes()); err != nil {
		return err
	}
	go func() { c.all.fail(c.readFrames()) }()
	return nil
}

// readFrames reads the events and answers the server's SETTINGS and PING, until the connection or a stream ends.
func (c *memoryClient) readFrames() error {
	frames := http2.NewFramer(c.conn, c.conn)
	for {
		f, err := frames.ReadFrame()
		if err != nil {
			return err
		}
		switch f := f.(type) {
		case *http2.DataFrame:
			c.all.note(f.Data())
		case *http2.SettingsFrame:
			if !f.IsAck() {
				err = frames.WriteSettingsAck()
			}
		case *http2.PingFrame:
			if !f.IsAck() {
				err = frames.WritePing(true, f.Data)
			}
		case *http2.RSTStreamFrame, *http2.GoAwayFrame:
			err = fmt.Errorf("got %v", f)
		}
		if err != nil {
			return err
		}
	}
}
