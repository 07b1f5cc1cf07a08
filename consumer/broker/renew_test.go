package broker

import (
	"context"
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

// accepting counts the connections that a listener accepts.
type accepting struct {
	net.Listener
	count *atomic.Int32
}

func (l *accepting) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		l.count.Add(1)
	}
	return conn, err
}

// TestConnectionsOutliveTheirSessions sends requests by kafka-go's Transport, and is a member of a group by its
// ConsumerGroup, at a broker whose sessions are short. No request fails, and no connection is closed.
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
			var accepted atomic.Int32
			broker := newFake(t, kfake.EnableSASL(), kfake.User(m.Name(), "herald", "secret"), kfake.SeedTopics(1, "t"),
				kfake.BrokerConfigs(map[string]string{"connections.max.reauth.ms": "1300"}),
				kfake.ListenFn(func(network, address string) (net.Listener, error) {
					l, err := new(net.ListenConfig).Listen(t.Context(), network, address)
					return &accepting{l, &accepted}, err
				}))
			c := NewCluster(broker.ListenAddrs(), nil, m, time.Minute)
			defer c.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
			defer cancel()
			joined := make(chan *kafka.Generation)
			var running sync.WaitGroup
			running.Go(func() { join(t, ctx, c, joined) })
			<-joined
			for range 3 { // at a time, for which the Transport has three connections
				running.Go(func() {
					for ctx.Err() == nil {
						if _, err := c.FetchMetadata(t.Context(), nil, false); err != nil {
							t.Error(err)
						}
						time.Sleep(10 * time.Millisecond)
					}
				})
			}
			time.Sleep(500 * time.Millisecond)
			before := accepted.Load()
			<-ctx.Done()
			if opened := accepted.Load() - before; opened > 1 { // by chance, one more request at a time than before
				t.Errorf("%d connections opened", opened)
			}
			running.Wait()
			if succeeded, failed := c.Renewals(); succeeded < 6 || failed != 0 {
				t.Errorf("%d renewals, %d failed", succeeded, failed)
			}
		})
	}
}

// join is a member of a group until ctx ends, and wants only one generation of the group.
func join(t *testing.T, ctx context.Context, c *Cluster, joined chan<- *kafka.Generation) {
	t.Helper()
	group, err := kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{
		ID: "g", Topics: []string{"t"}, Brokers: c.Addresses(), Dialer: c.GroupDialer(), JoinGroupBackoff: 100 * time.Millisecond, HeartbeatInterval: 50 * time.Millisecond,
	})
	if err != nil {
		t.Error(err)
		return
	}
	defer group.Close() //nolint:errcheck // the member has done its work
	generation, err := group.Next(ctx)
	joined <- generation
	if err != nil {
		t.Error(err)
		return
	}
	generation.Start(func(ctx context.Context) {
		for ctx.Err() == nil {
			if err := generation.CommitOffsets(map[string]map[int]int64{"t": {0: 1}}); err != nil {
				t.Error(err)
			}
			time.Sleep(30 * time.Millisecond)
		}
	})
	if _, err := group.Next(ctx); err != context.DeadlineExceeded { //nolint:errorlint // kafka-go returns it as it is
		t.Errorf("another generation, error %v", err)
	}
}
