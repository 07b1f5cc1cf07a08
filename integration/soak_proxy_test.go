package integration

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"time"
)

// soakWriteTimeout is the replicas' --write-timeout. Half of the proxies' stalls are longer.
const soakWriteTimeout = 2 * time.Second

// proxy starts the network between clients and a replica and returns its address. It cuts each connection after a
// random number of bytes of the response, with a regular end or a reset, and sometimes stalls it.
func (s *soak) proxy(replica string) (address string) {
	var config net.ListenConfig
	listener, err := config.Listen(s.t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	var connections sync.WaitGroup
	connections.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			connections.Go(func() { s.relay(conn.(*net.TCPConn), replica) })
		}
	})
	s.t.Cleanup(func() { // the test's context has ended, which has closed the connections
		_ = listener.Close()
		connections.Wait()
	})
	return listener.Addr().String()
}

// relay relays one connection.
func (s *soak) relay(client *net.TCPConn, replica string) {
	defer client.Close()                  //nolint:errcheck // cut
	dialer := net.Dialer{Control: narrow} // so that herald sees when nothing is taken
	server, err := dialer.DialContext(s.t.Context(), "tcp", replica)
	if err != nil {
		return // it is down
	}
	var request sync.WaitGroup
	defer request.Wait()
	defer server.Close() //nolint:errcheck // cut
	defer context.AfterFunc(s.t.Context(), func() {
		_ = client.Close()
		_ = server.Close()
	})()
	request.Go(func() {
		_, _ = io.Copy(server, client)
		_ = server.Close() // the client has gone
	})
	limit := rand.Int64N(300_000)
	if rand.IntN(4) == 0 {
		limit = rand.Int64N(600) // in the head of the response, or in the first events
	}
	for left := limit; left > 0; {
		n, err := io.CopyN(client, server, min(left, 1+rand.Int64N(20_000)))
		if err != nil {
			_ = client.CloseWrite()
			return // one of both has gone
		}
		left -= n
		if rand.IntN(30) == 0 {
			s.stalls.Add(1)
			time.Sleep(rand.N(2 * soakWriteTimeout))
		}
	}
	if rand.IntN(2) == 0 {
		s.ends.Add(1)
		_ = client.CloseWrite()
	} else {
		s.resets.Add(1)
		_ = client.SetLinger(0)
	}
	_ = client.Close() // before the request's copy ends by it
}

// timeouts counts the streams that ended because their client took nothing for the write time-out.
func (s *soak) timeouts() int {
	n := 0
	for _, h := range s.replicas {
		for line := range strings.Lines(h.printed.String()) {
			if strings.Contains(line, "stream ended") && (strings.Contains(line, "i/o timeout") || strings.Contains(line, "connection timed out")) {
				n++
			}
		}
	}
	return n
}
