package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// advertiser is the listener of the in-process broker with --kafka-advertise. The broker (kfake) names the address of
// its one listener to all clients. The server in this process must not depend on the advertised address, which may
// lead to the broker only from a container. So advertiser accepts from two listeners: its own one has the broker's
// address. For connections of the outer one, it replaces the address in the broker's responses.
type advertiser struct {
	net.Listener // the own one
	outer        net.Listener
	host         string
	port         int32

	accepted  chan net.Conn
	closed    chan struct{}
	close     func() error
	accepting sync.WaitGroup
}

func newAdvertiser(own, outer net.Listener, host string, port int32) *advertiser {
	a := &advertiser{Listener: own, outer: outer, host: host, port: port, accepted: make(chan net.Conn), closed: make(chan struct{})}
	a.close = sync.OnceValue(func() error {
		close(a.closed)
		_ = a.outer.Close()
		return a.Listener.Close()
	})
	a.accepting.Go(func() { a.acceptFrom(own, func(c net.Conn) net.Conn { return c }) })
	a.accepting.Go(func() {
		a.acceptFrom(outer, func(c net.Conn) net.Conn {
			return &advertisingConn{Conn: c, host: host, port: port, asked: make(map[int32]kmsg.Response)}
		})
	})
	return a
}

func (a *advertiser) acceptFrom(l net.Listener, wrap func(net.Conn) net.Conn) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		select {
		case a.accepted <- wrap(c):
		case <-a.closed:
			_ = c.Close()
		}
	}
}

// Accept implements [net.Listener].
func (a *advertiser) Accept() (net.Conn, error) {
	select {
	case c := <-a.accepted:
		return c, nil
	case <-a.closed:
		return nil, net.ErrClosed
	}
}

// Close implements [net.Listener].
func (a *advertiser) Close() error {
	err := a.close()
	a.accepting.Wait()
	return err
}

// maxKafkaRequest bounds the memory that one request can make advertisingConn allocate, in bytes.
const maxKafkaRequest = 128 << 20

// advertisingConn is the broker's side of a client's connection. It replaces the broker's address in the
// responses that have it: to Metadata, FindCoordinator and DescribeCluster. The newest versions of other responses
// name a broker only if a partition has moved, which does not happen with one broker.
type advertisingConn struct {
	net.Conn
	host string
	port int32
	rest []byte // of a request that Read has not returned yet

	mu    sync.Mutex
	asked map[int32]kmsg.Response // empty responses to the requests under way that have the address, by correlation id
}

// Read implements [net.Conn]. It reads whole requests, because their heads say how to read the responses.
func (c *advertisingConn) Read(p []byte) (int, error) {
	if len(c.rest) == 0 {
		request, err := readRequest(c.Conn)
		if err != nil {
			return 0, err
		}
		c.recordRequest(request)
		c.rest = request
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// requestHead is the length of a request's size, key, version and correlation id.
const requestHead = 12

// readRequest returns a request with its size.
func readRequest(r io.Reader) ([]byte, error) {
	head := make([]byte, requestHead)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	size := int(binary.BigEndian.Uint32(head)) + 4
	if size < requestHead || size > maxKafkaRequest {
		return nil, fmt.Errorf("request of %d bytes", size)
	}
	request := append(head, make([]byte, size-requestHead)...)
	_, err := io.ReadFull(r, request[requestHead:])
	return request, err
}

func (c *advertisingConn) recordRequest(request []byte) {
	reader := kbin.Reader{Src: request[4:]}
	key, version := kmsg.Key(reader.Int16()), reader.Int16()
	if key != kmsg.Metadata && key != kmsg.FindCoordinator && key != kmsg.DescribeCluster {
		return
	}
	response := key.Response()
	response.SetVersion(version)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked[reader.Int32()] = response
}

// Write implements [net.Conn]. kfake writes each response at once.
func (c *advertisingConn) Write(p []byte) (int, error) {
	reader := kbin.Reader{Src: p[4:]}
	id := reader.Int32()
	c.mu.Lock()
	response, found := c.asked[id]
	delete(c.asked, id)
	c.mu.Unlock()
	if !found {
		return c.Conn.Write(p)
	}
	head, body := p[:8], p[8:]
	if response.IsFlexible() { // the head ends with tagged fields; kfake writes none, which is one byte
		head, body = p[:9], p[9:]
	}
	if err := response.ReadFrom(body); err != nil {
		return 0, fmt.Errorf("response of the in-process broker: %w", err)
	}
	c.advertise(response)
	out := response.AppendTo(append([]byte(nil), head...))
	binary.BigEndian.PutUint32(out, uint32(len(out)-4)) //nolint:gosec // a few addresses longer than kfake's response
	if _, err := c.Conn.Write(out); err != nil {
		return 0, err
	}
	return len(p), nil
}

// advertise replaces the broker's address. A response without an address, such as an error, keeps none.
func (c *advertisingConn) advertise(response kmsg.Response) {
	replace := func(host *string, port *int32) {
		if *host != "" {
			*host, *port = c.host, c.port
		}
	}
	switch r := response.(type) {
	case *kmsg.MetadataResponse:
		for i := range r.Brokers {
			replace(&r.Brokers[i].Host, &r.Brokers[i].Port)
		}
	case *kmsg.FindCoordinatorResponse:
		replace(&r.Host, &r.Port)
		for i := range r.Coordinators {
			replace(&r.Coordinators[i].Host, &r.Coordinators[i].Port)
		}
	case *kmsg.DescribeClusterResponse:
		for i := range r.Brokers {
			replace(&r.Brokers[i].Host, &r.Brokers[i].Port)
		}
	}
}
