package broker

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/sasl"
)

const (
	// RequestTimeout bounds each request that does not wait for records.
	RequestTimeout = 10 * time.Second

	clientID    = "herald"
	dialTimeout = 5 * time.Second
)

// errClosed is the error of a request after [Cluster.Close].
var errClosed = errors.New("the connections to Kafka are closed, because Herald stops")

// Cluster sends single requests to the brokers of one Kafka cluster. It is safe for concurrent use.
type Cluster struct {
	bootstrap   []string // host:port
	addr        net.Addr // of bootstrap
	tls         *tls.Config
	mechanism   sasl.Mechanism // nil: no SASL
	transport   *kafka.Transport
	stop        context.CancelFunc // ends the goroutines of the transport
	roster      *roster
	lastID      atomic.Int32 // the correlation id of the last request
	connections atomic.Int32
	renewals    renewals
	unstarted   atomic.Pointer[startError] // why the mechanism could not start for the last new connection; nil: it started
	answered    atomic.Bool                // a broker has answered a request, so address, TLS and SASL are right
}

// NewCluster returns the cluster that the bootstrap brokers (host:port) belong to. It connects when the
// first request is sent. tlsConfig and mechanism may be nil.
//
// idle is how long an unused connection is kept. A broker that restarts closes its connections, and
// the next request on such a connection fails: a request that must not fail for that wants a short idle.
func NewCluster(bootstrap []string, tlsConfig *tls.Config, mechanism sasl.Mechanism, idle time.Duration) *Cluster {
	ctx, stop := context.WithCancel(context.Background())
	c := &Cluster{
		bootstrap: bootstrap,
		addr:      kafka.TCP(bootstrap...),
		tls:       tlsConfig,
		mechanism: mechanism,
		roster:    newRoster(),
		transport: &kafka.Transport{
			ClientID:       clientID,
			DialTimeout:    dialTimeout,
			IdleTimeout:    idle,
			MetadataTTL:    2 * time.Second,
			MetadataTopics: []string{}, // none: the transport uses its metadata for brokers' addresses only
			Context:        ctx,
		},
		stop: stop,
	}
	c.transport.Dial = c.dial
	return c
}

// Close closes idle connections. A connection with a request under way closes after its answer. Later requests fail:
// without that, kafka-go would open connections again that nobody closes.
func (c *Cluster) Close() {
	c.transport.CloseIdleConnections()
	c.stop()
}

// Addresses returns host:port of every broker known: first the brokers from the last metadata, the
// broker that answered last in front, then the bootstrap brokers.
func (c *Cluster) Addresses() []string { return slices.Concat(c.roster.addresses(), c.bootstrap) }
