package broker

import (
	"context"
	"crypto/tls"
	"net"
	"sync"

	"github.com/segmentio/kafka-go"
)

// dial opens a connection to a broker, with TLS if the cluster has it, asks which versions the broker speaks, and logs in.
func (c *Cluster) dial(ctx context.Context, network, address string) (net.Conn, error) {
	open := new(net.Dialer).DialContext
	if c.tls != nil {
		open = (&tls.Dialer{Config: c.tls}).DialContext
	}
	conn, err := open(ctx, network, address)
	if err != nil {
		return nil, err
	}
	offer, err := c.askVersions(ctx, conn)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	session, err := c.logIn(ctx, conn, address, offer)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	c.connections.Add(1)
	return &checkedConn{Conn: conn, offer: offer, session: session, forget: sync.OnceFunc(func() { c.connections.Add(-1) })}, nil
}

// Connections returns the number of connections to brokers that are open.
func (c *Cluster) Connections() int { return int(c.connections.Load()) }

// GroupDialer returns a dialer for kafka-go's ConsumerGroup, which does not take the cluster's Transport.
// Its connections create no topics.
func (c *Cluster) GroupDialer() *kafka.Dialer {
	return &kafka.Dialer{
		ClientID: clientID, Timeout: RequestTimeout,
		DialFunc: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := c.dial(ctx, network, address)
			if err != nil {
				return nil, c.explainDial(err, address)
			}
			conn.(*checkedConn).noCreate = true //nolint:forcetypeassert // dial returns nothing else
			return conn, nil
		},
	}
}
