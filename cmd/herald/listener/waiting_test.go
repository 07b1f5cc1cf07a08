package listener

import (
	"context"
	"io"
	"net"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestFirstToClose wants connections of the network with the most connections to close first, and the
// longest-waiting one among them.
func TestFirstToClose(t *testing.T) {
	w := newWaiting()
	var conns []*limitedConn
	for _, address := range []string{"192.0.2.1", "192.0.2.2", "192.0.2.2", "::ffff:192.0.2.2", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", "192.0.2.3"} {
		c := &limitedConn{from: networkOf(&net.TCPAddr{IP: net.ParseIP(address)})}
		conns = append(conns, c)
		w.add(c)
	}
	w.remove(conns[7])
	w.remove(conns[7])
	var got []int
	for c := w.first(); c != nil; c = w.first() {
		for i := range conns {
			if conns[i] == c {
				got = append(got, i)
			}
		}
		w.remove(c)
		if len(got) == 1 { // it is added again, and waits since now
			w.add(c)
		}
	}
	// Connection 1 comes back after 3. Then 2, 3 and 1 are three connections again, and 4 and 5 are two.
	if diff := cmp.Diff([]int{1, 2, 3, 4, 0, 5, 6, 1}, got); diff != "" {
		t.Errorf("order of closing (-want +got):\n%s", diff)
	}
	if len(w.networks) != 0 {
		t.Errorf("%d networks are kept", len(w.networks))
	}
}

// TestRoomIsNotMadeOfStreams opens streams on a server with few places while other connections crowd in.
// A stream whose answer has begun stays open.
func TestRoomIsNotMadeOfStreams(t *testing.T) {
	const streams = 50
	_, listener, evicted := limitedServer(t, streams+2, (*httptest.Server).Start)
	address := listener.Addr().String()
	ctx, stop := context.WithCancel(t.Context())
	var crowd sync.WaitGroup
	for range 4 {
		crowd.Go(func() {
			for ctx.Err() == nil {
				if conn, err := new(net.Dialer).DialContext(ctx, "tcp", address); err == nil {
					_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\n")
					time.Sleep(time.Millisecond)
					_ = conn.Close()
				}
			}
		})
	}
	var open []net.Conn
	for deadline := time.Now().Add(20 * time.Second); len(open) < streams; {
		conn := dial(t, address)
		if err := ask(conn, []string{"/", "/taken"}[len(open)%2], 20*time.Second); err == nil { // else it was closed to make room before its request was complete
			open = append(open, conn)
		} else if time.Now().After(deadline) {
			t.Fatalf("%d streams: %v", len(open), err)
		}
	}
	time.Sleep(100 * time.Millisecond)
	stop()
	crowd.Wait()
	for i, conn := range open {
		if err := lives(conn); err != nil {
			t.Fatalf("stream %d: %v", i, err)
		}
	}
	if evicted.Load() == 0 {
		t.Error("no connection gave way")
	}
}
