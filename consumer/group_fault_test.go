package consumer

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// ears are the listeners of a cluster's brokers. While a broker's flag is set, the broker accepts
// connections and requests but does not read them, so it never answers.
type ears []*atomic.Bool

// listen gives each broker of a cluster a listener that can become deaf.
func (e *ears) listen() kfake.Opt {
	return kfake.ListenFn(func(network, address string) (net.Listener, error) {
		l, err := net.Listen(network, address) //nolint:noctx // kfake's signature has none
		deaf := new(atomic.Bool)
		*e = append(*e, deaf)
		return ear{l, deaf}, err
	})
}

type ear struct {
	net.Listener
	deaf *atomic.Bool
}

func (e ear) Accept() (net.Conn, error) {
	conn, err := e.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &earConn{Conn: conn, deaf: e.deaf, closed: make(chan struct{})}, nil
}

type earConn struct {
	net.Conn
	deaf   *atomic.Bool
	once   atomic.Bool
	closed chan struct{}
}

func (c *earConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	for c.deaf.Load() && err == nil {
		select {
		case <-c.closed:
			return 0, net.ErrClosed
		case <-time.After(10 * time.Millisecond):
		}
	}
	return n, err
}

func (c *earConn) Close() error {
	if !c.once.Swap(true) {
		close(c.closed)
	}
	return c.Conn.Close()
}

// partitioned returns a function that writes a record to a partition.
func partitioned(t *testing.T, broker *kfake.Cluster) func(topic string, partition int32, user, value string) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(broker.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return func(topic string, partition int32, user, value string) {
		t.Helper()
		if err := client.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Partition: partition, Key: []byte(user), Value: []byte(value)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
}

// waitCommitted waits until the group's committed offset of the partition is next.
func waitCommitted(t *testing.T, broker *kfake.Cluster, group string, p Partition, next int64) {
	t.Helper()
	at := func() int64 {
		if info := broker.GroupInfo(group); info != nil {
			if offset, ok := info.Commits[p.Topic][p.ID]; ok {
				return offset.Offset
			}
		}
		return -1
	}
	for deadline := time.Now().Add(90 * time.Second); at() != next; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("group %s has committed offset %d of %s, want %d", group, at(), p, next)
		}
	}
}

// TestCommitsFollowTheirCoordinators checks that commits of both groups continue when the groups'
// coordinators move to other brokers.
func TestCommitsFollowTheirCoordinators(t *testing.T) {
	t.Parallel()
	broker, c, sink, _ := startOn(t, []kfake.Opt{kfake.NumBrokers(3), kfake.SeedTopics(1, "t", "own.alice")}, nil, "t", "own.{user}")
	if _, err := c.Join(t.Context(), "alice"); err != nil {
		t.Fatal(err)
	}
	write := partitioned(t, broker)
	for round := range int64(2) {
		write("t", 0, "alice", "x")
		write("own.alice", 0, "alice", "x")
		sink.sorted(t, 2*int(round+1))
		c.Delivered(Partition{Topic: "own.alice", ID: 0}, c.topics.idOf("own.alice"), round+1)
		waitCommitted(t, broker, "test.one", Partition{Topic: "t", ID: 0}, round+1)
		waitCommitted(t, broker, "test.delivered", Partition{Topic: "own.alice", ID: 0}, round+1)
		was := [2]int32{broker.CoordinatorFor("test.one"), broker.CoordinatorFor("test.delivered")}
		for broker.CoordinatorFor("test.one") == was[0] || broker.CoordinatorFor("test.delivered") == was[1] {
			broker.RehashCoordinators()
		}
	}
}

// TestHangingBrokerDelaysOnlyItsOwnPartitions makes the first bootstrap broker accept connections and
// requests and never answer. It checks that partitions led by other brokers are read, that streams open,
// and that offsets are committed, although the coordinator moves during this time. The broker's own
// partition is read once the broker answers again.
func TestHangingBrokerDelaysOnlyItsOwnPartitions(t *testing.T) {
	t.Parallel()
	var hearing ears
	broker, c, sink, _ := startOn(t, []kfake.Opt{kfake.NumBrokers(3), kfake.SeedTopics(3, "t"), hearing.listen()}, nil, "t", "own.{user}")
	for p := range int32(3) {
		if err := broker.MoveTopicPartition("t", p, p); err != nil {
			t.Fatal(err)
		}
	}
	ready(t, c)
	write := partitioned(t, broker)
	for p := range int32(3) {
		write("t", p, "alice", fmt.Sprint("before ", p))
	}
	want := sink.sorted(t, 3)
	waitCommitted(t, broker, "test.one", Partition{Topic: "t", ID: 1}, 1)

	hearing[0].Store(true)
	was := broker.CoordinatorFor("test.one")
	for now := was; now == was || now == 0 || broker.CoordinatorFor("test.delivered") == 0; now = broker.CoordinatorFor("test.one") {
		broker.RehashCoordinators()
	}
	for p := range int32(2) {
		write("t", p+1, "alice", fmt.Sprint("after ", p+1))
		want = append(want, fmt.Sprint("alice after ", p+1))
	}
	sink.wantLines(t, sortedCopy(want))
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, err := c.Join(ctx, "alice"); err != nil {
		t.Errorf("Join while a broker does not answer: %v", err)
	}
	if _, err := c.DeliveredTo(ctx, "alice"); err != nil {
		t.Errorf("DeliveredTo while a broker does not answer: %v", err)
	}
	waitCommitted(t, broker, "test.one", Partition{Topic: "t", ID: 1}, 2)

	hearing[0].Store(false)
	write("t", 0, "alice", "after 0")
	want = append(want, "alice after 0")
	sink.wantLines(t, sortedCopy(want))
	waitCommitted(t, broker, "test.one", Partition{Topic: "t", ID: 0}, 2)
}
