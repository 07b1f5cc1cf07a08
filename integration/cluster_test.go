package integration

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/testcontainers/testcontainers-go"
	tcnetwork "github.com/testcontainers/testcontainers-go/network"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const clusterSize = 3

// cluster is three nodes of Apache Kafka, each a broker and a controller, in racks a, b and c. Each topic has a
// replica on each node, and Kafka acknowledges a record when two replicas have it. Tests may stop brokers; when a
// test ends, all brokers run again.
type cluster struct {
	broker // for topics and records
	nodes  [clusterSize]*node
}

// node is one broker of the cluster. Its address stays the same over restarts.
type node struct {
	id        int32
	rack      string
	address   string
	container *testcontainers.DockerContainer
}

// theCluster is the cluster of all tests that need several brokers.
var theCluster shared[cluster]

// sharedCluster returns the cluster of this package, all of whose brokers are up. Without Docker
// the test is skipped.
func sharedCluster(t *testing.T) *cluster {
	t.Helper()
	c, err := theCluster.get((*cluster).open)
	if errors.Is(err, errNoDocker) {
		notTested(t, requireDocker, "Herald on a cluster of several brokers. No Docker engine answers: start one. "+err.Error())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, n := range c.nodes {
				t.Logf("kafka %d\n%s", n.id, containerLog(n.container))
			}
		}
	})
	return c
}

// clusterProperties make the cluster lose no acknowledged record and notice soon that a broker is down. Leaders
// move only when a test moves them.
const clusterProperties = promptCleaning + `
default.replication.factor=3
min.insync.replicas=2
offsets.topic.replication.factor=3
transaction.state.log.replication.factor=3
transaction.state.log.min.isr=2
replica.selector.class=org.apache.kafka.common.replica.RackAwareReplicaSelector
auto.leader.rebalance.enable=false
broker.session.timeout.ms=5000
broker.heartbeat.interval.ms=1000
`

// clusterJVM bounds the memory of three brokers on one machine. With less memory, the brokers would spend most of
// their time on garbage collection, because they hold the topics of all tests. The brokers do not cache names,
// because a container may have another address after a restart.
const clusterJVM = "-Xms128m -Xmx512m -Dsun.net.inetaddr.ttl=1 -Dsun.net.inetaddr.negative.ttl=0"

// open starts all containers at the same time, because a node waits for the other nodes.
func (c *cluster) open() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*kafkaStartTimeout)
	defer cancel()
	if err := dockerAnswers(ctx); err != nil {
		return err
	}
	var err error
	if c.network, err = tcnetwork.New(ctx); err != nil {
		return fmt.Errorf("network of containers: %w", err)
	}
	var voters []string
	for i := range c.nodes {
		address, err := unusedAddress(ctx)
		if err != nil {
			return err
		}
		c.nodes[i] = &node{id: int32(i) + 1, rack: string(rune('a' + i)), address: address}
		c.addresses = append(c.addresses, address)
		voters = append(voters, fmt.Sprintf("%d@%s:9093", i+1, c.nodes[i].host()))
	}
	errs := make(chan error, clusterSize)
	for _, n := range c.nodes {
		go func() { errs <- n.run(ctx, c.network, strings.Join(voters, ",")) }()
	}
	for range c.nodes {
		err = errors.Join(err, <-errs)
	}
	if err != nil {
		return err
	}
	c.replicas = clusterSize
	if err := c.connect(ctx); err != nil {
		return err
	}
	return c.waitForNodes(ctx)
}

func (n *node) host() string { return fmt.Sprint("kafka-", n.id) }

func (n *node) run(ctx context.Context, network *testcontainers.DockerNetwork, voters string) (err error) {
	n.container, err = testcontainers.Run(ctx, kafkaImage(),
		testcontainers.WithExposedPorts(kafkaPort), bindPort(kafkaPort, n.address),
		tcnetwork.WithNetwork([]string{n.host()}, network),
		testcontainers.WithFiles(startScript()), testcontainers.WithEntrypoint("sh", kafkaStart), testcontainers.WithCmd(),
		testcontainers.WithEnv(map[string]string{
			"KAFKA_NODE_ID": fmt.Sprint(n.id), "KAFKA_VOTERS": voters, "KAFKA_RACK": n.rack,
			"KAFKA_HOST": n.host(), "KAFKA_ADVERTISED": n.address,
			"KAFKA_PROPERTIES": clusterProperties, "KAFKA_HEAP_OPTS": clusterJVM,
		}))
	if err != nil {
		return fmt.Errorf("start kafka %d: %w", n.id, err)
	}
	return nil
}

// waitForNodes waits until all brokers are members of the cluster and answer. Membership alone is not enough: a
// broker stays a member for a moment after it was killed.
func (c *cluster) waitForNodes(ctx context.Context) error {
	for {
		attempt, cancel := context.WithTimeout(ctx, 10*time.Second)
		brokers, err := c.admin.ListBrokers(attempt)
		for _, b := range brokers {
			_, answered := c.producer.Broker(int(b.NodeID)).Request(attempt, kmsg.NewPtrApiVersionsRequest())
			err = errors.Join(err, answered)
		}
		cancel()
		if err == nil && len(brokers) == clusterSize {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("of %d brokers %d are members: %w", clusterSize, len(brokers), err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// newTopic creates a topic of its own for the test, with all replicas in sync.
func (c *cluster) newTopic(t *testing.T, name string, partitions int) string {
	t.Helper()
	topic := topicName(t, name)
	c.createTopic(t, topic, partitions)
	return topic
}

func (c *cluster) createTopic(t *testing.T, topic string, partitions int) {
	t.Helper()
	c.broker.createTopic(t, topic, partitions) // tries again while a broker is out of the cluster
	c.waitInSync(t, topic)
}

// waitInSync waits until all brokers have all of the topics.
func (c *cluster) waitInSync(t *testing.T, topics ...string) {
	t.Helper()
	waitFor(t, fmt.Sprint("all replicas in sync of ", topics), func(ctx context.Context) bool {
		found, err := c.admin.ListTopics(ctx, topics...)
		if err != nil || found.Error() != nil {
			return false
		}
		for _, topic := range found {
			if len(topic.Partitions) == 0 {
				return false
			}
			for _, p := range topic.Partitions {
				if len(p.ISR) < len(p.Replicas) || p.Leader < 0 {
					return false
				}
			}
		}
		return true
	})
}

// remove removes the containers and their network, if there are any.
func (c *cluster) remove() error {
	if c.producer != nil {
		c.producer.Close()
	}
	if c.network == nil {
		return nil
	}
	errs := make(chan error, clusterSize)
	for _, n := range c.nodes {
		go func() {
			if n == nil || n.container == nil {
				errs <- nil
				return
			}
			errs <- testcontainers.TerminateContainer(n.container, testcontainers.StopTimeout(0))
		}()
	}
	var err error
	for range c.nodes {
		err = errors.Join(err, <-errs)
	}
	return errors.Join(err, c.network.Remove(context.Background()))
}

// TestCluster runs the tests of the shared cluster one after the other, because each stops or moves brokers. They mostly
// wait for brokers, so they run beside other tests. TestCluster takes longest of all parallel tests. It is the first one in the
// order of files, so it starts first.
func TestCluster(t *testing.T) {
	t.Parallel()
	t.Run("OwnNodes", testOwnNodes)
	t.Run("LeaderKilled", testLeaderKilled)
	t.Run("BrokersRestarted", testBrokersRestarted)
	t.Run("LeaderMoved", testLeaderMoved)
	t.Run("AllBrokersStopped", testAllBrokersStopped)
	t.Run("BrokerPaused", testBrokerPaused)
	t.Run("TooFewReplicasInSync", testTooFewReplicasInSync)
	t.Run("ReadsFromBrokerOfItsRack", testReadsFromBrokerOfItsRack)
	t.Run("SinceWithoutALeader", testSinceWithoutALeader)
}

// testOwnNodes checks the tests' own cluster: leaders move, and racks are known.
func testOwnNodes(t *testing.T) {
	c := sharedCluster(t)
	topic := c.newTopic(t, "records", 1)
	for _, n := range c.nodes {
		c.moveLeader(t, topic, 0, n)
		if got := c.leaderOf(t, topic, 0); got != n {
			t.Errorf("%s/0 is led by %d, want %d", topic, got.id, n.id)
		}
	}
	brokers, err := c.admin.ListBrokers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range brokers {
		if want := c.nodes[b.NodeID-1].rack; b.Rack == nil || *b.Rack != want {
			t.Errorf("broker %d is not in rack %s", b.NodeID, want)
		}
	}
}
