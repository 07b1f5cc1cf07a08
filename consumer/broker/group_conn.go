package broker

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"net"
	"slices"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
)

// GroupDialer returns a dialer for kafka-go's ConsumerGroup, which does not take the cluster's Transport.
// Its connections create no topics.
func (c *Cluster) GroupDialer() *kafka.Dialer {
	dial := new(net.Dialer).DialContext
	if c.transport.TLS != nil {
		dial = (&tls.Dialer{Config: c.transport.TLS}).DialContext
	}
	return &kafka.Dialer{
		ClientID: clientID, Timeout: RequestTimeout, SASLMechanism: c.transport.SASL,
		DialFunc: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dial(ctx, network, address)
			if err != nil {
				return nil, c.explainDial(err, address)
			}
			return &groupConn{Conn: conn}, nil
		},
	}
}

// groupConn is a connection of kafka-go's ConsumerGroup. It changes metadata requests so that they create
// no topics.
//
// The group's leader asks for the metadata of all members' topics, and kafka-go allows the broker to
// create the missing ones, which brokers do by default (auto.create.topics.enable). A topic deleted a
// moment ago, or named by another member only, would come to life again. kafka-go calls one Write at a
// time, so groupConn has no lock.
type groupConn struct {
	net.Conn
	head [8]byte // size, key and version of the request under way
	at   int     // how many bytes of the request were written
}

// Write implements [net.Conn].
func (c *groupConn) Write(p []byte) (int, error) {
	const first, last = 4, 7 // the versions whose last byte says whether topics may be created
	p = slices.Clone(p)
	for i, b := range p {
		if c.at < len(c.head) {
			c.head[c.at] = b
		}
		c.at++
		if c.at < 4 || c.at < 4+int(binary.BigEndian.Uint32(c.head[:])) {
			continue
		}
		key, version := binary.BigEndian.Uint16(c.head[4:]), binary.BigEndian.Uint16(c.head[6:])
		if key == uint16(protocol.Metadata) && first <= version && version <= last {
			p[i] = 0
		}
		c.head, c.at = [8]byte{}, 0
	}
	return c.Conn.Write(p)
}
