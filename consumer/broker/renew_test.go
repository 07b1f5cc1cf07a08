package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"
	"github.com/twmb/franz-go/pkg/kfake"
)

// closing counts the connections of a listener that were closed.
type closing struct {
	net.Listener
	count *atomic.Int32
}

func (l *closing) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &closingConn{conn, sync.OnceFunc(func() { l.count.Add(1) })}, nil
}

type closingConn struct {
	net.Conn
	count func()
}

func (c *closingConn) Close() error {
	c.count()
	return c.Conn.Close()
}

// TestConnectionsOutliveTheirSessions sends requests by kafka-go's Transport, and is a member of a group by its
// ConsumerGroup, at a broker whose sessions are short. No request fails, and no connection is closed. Up to three clusters
// try, because a request times out on a machine that stalls for seconds.
func TestConnectionsOutliveTheirSessions(t *testing.T) {
	sha256, err := scram.Mechanism(scram.SHA256, "herald", "secret")
	if err != nil {
		t.Fatal(err)
	}
	sha512, err := scram.Mechanism(scram.SHA512, "herald", "secret")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []sasl.Mechanism{plain.Mechanism{Username: "herald", Password: "secret"}, sha256, sha512} {
		t.Run(m.Name(), func(t *testing.T) {
			t.Parallel()
			var err error
			for range 3 {
				if err = outliveSessions(t, m); err == nil {
					return
				}
				t.Log(err)
			}
			t.Error("three times in a row: ", err)
		})
	}
}

// outliveSessions sends requests until sessions were renewed six times. It returns the first error.
func outliveSessions(t *testing.T, m sasl.Mechanism) error {
	t.Helper()
	var closed atomic.Int32
	broker := newFake(t, kfake.EnableSASL(), kfake.User(m.Name(), "herald", "secret"), kfake.SeedTopics(1, "t"),
		kfake.BrokerConfigs(map[string]string{"connections.max.reauth.ms": "1300"}),
		kfake.ListenFn(func(network, address string) (net.Listener, error) {
			l, err := new(net.ListenConfig).Listen(t.Context(), network, address)
			return &closing{l, &closed}, err
		}))
	c := NewCluster(broker.ListenAddrs(), nil, m, time.Minute)
	defer c.Close()
	limited, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	ctx, end := context.WithCancelCause(limited)
	joined := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() { join(ctx, end, c, joined) })
	<-joined
	for range 3 { // at a time, for which the Transport has three connections
		running.Go(func() {
			for ctx.Err() == nil {
				if _, err := c.FetchMetadata(t.Context(), nil, false); err != nil {
					end(err)
				}
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
	for succeeded, _ := c.Renewals(); succeeded < 6 && ctx.Err() == nil; succeeded, _ = c.Renewals() {
		time.Sleep(10 * time.Millisecond)
	}
	gone := closed.Load()
	end(nil)
	running.Wait()
	if err := context.Cause(ctx); err != context.Canceled { //nolint:errorlint // not the error of a request
		return fmt.Errorf("before six renewals: %w", err)
	}
	if gone > 1 { // kafka-go closes the connection on which it asked for the group's coordinator
		return fmt.Errorf("%d connections closed", gone)
	}
	if _, failed := c.Renewals(); failed != 0 {
		return fmt.Errorf("%d renewals failed", failed)
	}
	return nil
}

// join is a member of a group until ctx ends, and wants only one generation of the group. It closes joined when this
// generation begins, and calls end after an error.
func join(ctx context.Context, end context.CancelCauseFunc, c *Cluster, joined chan<- struct{}) {
	began := sync.OnceFunc(func() { close(joined) })
	defer began()
	group, err := kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{
		ID: "g", Topics: []string{"t"}, Brokers: c.Addresses(), Dialer: c.GroupDialer(), JoinGroupBackoff: 100 * time.Millisecond, HeartbeatInterval: 50 * time.Millisecond,
	})
	if err != nil {
		end(err)
		return
	}
	defer group.Close() //nolint:errcheck // the member has done its work
	generation, err := group.Next(ctx)
	if err != nil {
		end(err)
		return
	}
	began()
	generation.Start(func(ctx context.Context) {
		for ctx.Err() == nil {
			if err := generation.CommitOffsets(map[string]map[int]int64{"t": {0: 1}}); err != nil {
				end(err)
			}
			time.Sleep(30 * time.Millisecond)
		}
	})
	_, err = group.Next(ctx)
	end(errors.Join(errors.New("another generation"), err)) // does nothing if ctx has ended
}
