package broker

import (
	"context"
	"crypto/tls"
	"net"

	"github.com/segmentio/kafka-go"
)

// dial opens a connection to a broker, with TLS if tlsConfig is not nil.
func dial(ctx context.Context, tlsConfig *tls.Config, network, address string) (net.Conn, error) {
	open := new(net.Dialer).DialContext
	if tlsConfig != nil {
		open = (&tls.Dialer{Config: tlsConfig}).DialContext
	}
	conn, err := open(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &checkedConn{Conn: conn}, nil
}

// GroupDialer returns a dialer for kafka-go's ConsumerGroup, which does not take the cluster's Transport.
// Its connections create no topics.
func (c *Cluster) GroupDialer() *kafka.Dialer {
	return &kafka.Dialer{
		ClientID: clientID, Timeout: RequestTimeout, SASLMechanism: c.transport.SASL,
		DialFunc: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dial(ctx, c.tls, network, address)
			if err != nil {
				return nil, c.explainDial(err, address)
			}
			return conn, nil
		},
	}
}
