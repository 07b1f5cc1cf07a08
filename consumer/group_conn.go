package consumer

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"net"
	"slices"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
)

// groupDialer dials for kafka-go's consumer group, over connections that create no topics.
func (c *Consumer) groupDialer() *kafka.Dialer {
	dial := new(net.Dialer).DialContext
	if c.cfg.TLS != nil {
		dial = (&tls.Dialer{Config: c.cfg.TLS}).DialContext
	}
	return &kafka.Dialer{
		ClientID: clientID, Timeout: requestTimeout, SASLMechanism: c.cfg.SASL,
		DialFunc: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dial(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return &groupConn{Conn: conn}, nil
		},
	}
}

// groupConn is a connection of kafka-go's consumer group. The group's leader asks for the metadata of all
// members' topics and allows the broker, which by default makes use of it (auto.create.topics.enable), to
// create those that are missing: a topic would come back that was deleted a moment ago, or that another
// member names. Here such a request allows nothing. As with kafka-go's own, one Write at a time.
type groupConn struct {
	net.Conn
	head [8]byte // of the request under way: size, key and version
	at   int     // bytes of it that are written
}

// Write implements [net.Conn].
func (c *groupConn) Write(p []byte) (int, error) {
	const first, last = 4, 7 // versions of metadata requests that end with whether topics may be created
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
