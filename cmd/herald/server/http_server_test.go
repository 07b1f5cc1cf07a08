package server

import (
	"bufio"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// oneConnection is a listener that accepts one connection, and then waits until it is closed.
type oneConnection struct{ conns chan net.Conn }

func (l oneConnection) Accept() (net.Conn, error) {
	if conn, ok := <-l.conns; ok {
		return conn, nil
	}
	return nil, net.ErrClosed
}

func (oneConnection) Addr() net.Addr { return new(net.TCPAddr) }

func (l oneConnection) Close() error { close(l.conns); return nil }

// TestIdleConnections has a connection wait for its next request longer than Caddy keeps connections by default, which
// is the longest default of the proxies that deploy/PROXIES.md compares. The next request works. Then the connection
// waits until the server closes it.
func TestIdleConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, conn := net.Pipe()
		l := oneConnection{make(chan net.Conn, 1)}
		l.conns <- conn
		srv := newHTTPServer(http.NotFoundHandler(), slog.New(slog.DiscardHandler))
		defer srv.Close() //nolint:errcheck // of a pipe
		go func() { _ = srv.Serve(l) }()
		answers := bufio.NewReader(client)
		for range 2 {
			if _, err := io.WriteString(client, "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			res, err := http.ReadResponse(answers, nil)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
			time.Sleep(2*time.Minute + time.Second)
		}
		start := time.Now()
		if _, err := answers.ReadByte(); err != io.EOF || time.Since(start) > time.Minute {
			t.Errorf("%v after %v more, want the connection closed within a minute", err, time.Since(start))
		}
	})
}
