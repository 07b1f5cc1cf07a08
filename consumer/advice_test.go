package consumer

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// TestWrongListener connects in a way that the listener does not want, and wants the flag that mends it.
func TestWrongListener(t *testing.T) {
	for name, test := range map[string]struct {
		tls     *tls.Config
		address string
		want    string
	}{
		"plain text to TLS":     {nil, listenWith(t, func(c net.Conn) { _, _ = io.ReadFull(c, make([]byte, 5)) }), "Add --kafka-tls or"},
		"plain text, cut":       {nil, listenWith(t, func(c net.Conn) { _, _ = c.Read(make([]byte, 4<<10)) }), "Add --kafka-tls or"},
		"TLS to one who closes": {&tls.Config{}, listenWith(t, func(c net.Conn) { _, _ = c.Read(make([]byte, 1)) }), "Leave --kafka-tls out"},
		"TLS to one who waits":  {&tls.Config{}, listenWith(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }), "leave --kafka-tls out"},
		"TLS to one who answers": {&tls.Config{}, listenWith(t, func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request")
		}), "the listener speaks no TLS: leave --kafka-tls out"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster([]string{test.address}, test.tls, nil, time.Minute)
			defer c.close()
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			if err := c.check(ctx); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
}

// listenWith serves one connection after the other, each until serve returns.
func listenWith(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			stop := context.AfterFunc(t.Context(), func() { _ = c.Close() })
			serve(c)
			stop()
			_ = c.Close()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-ended
	})
	return l.Addr().String()
}
