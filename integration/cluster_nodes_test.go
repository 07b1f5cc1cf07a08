package integration

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

// leaderOf returns the node that leads the partition.
func (c *cluster) leaderOf(t *testing.T, topic string, partition int32) *node {
	t.Helper()
	var leader *node
	waitFor(t, fmt.Sprintf("a leader of %s/%d", topic, partition), func(ctx context.Context) bool {
		found, err := c.admin.ListTopics(ctx, topic)
		if err != nil || found.Error() != nil {
			return false
		}
		id := found[topic].Partitions[partition].Leader
		if id < 1 {
			return false
		}
		leader = c.nodes[id-1]
		return true
	})
	return leader
}

// moveLeader makes the node the partition's preferred leader by a reassignment, and then its leader
// by an election.
func (c *cluster) moveLeader(t *testing.T, topic string, partition int32, to *node) {
	t.Helper()
	replicas := []int32{to.id}
	for _, n := range c.nodes {
		if n != to {
			replicas = append(replicas, n.id)
		}
	}
	c.assign(t, topic, partition, replicas...)
	var set kadm.TopicsSet
	set.Add(topic, partition)
	waitFor(t, fmt.Sprintf("%s/%d led by %d", topic, partition, to.id), func(ctx context.Context) bool {
		_, _ = c.admin.ElectLeaders(ctx, kadm.ElectPreferredReplica, set) // fails if the node leads the partition already
		found, err := c.admin.ListTopics(ctx, topic)
		return err == nil && found[topic].Partitions[partition].Leader == to.id
	})
}

// assign gives the partition the replicas, of which the first is the preferred leader.
func (c *cluster) assign(t *testing.T, topic string, partition int32, replicas ...int32) {
	t.Helper()
	var request kadm.AlterPartitionAssignmentsReq
	request.Assign(topic, partition, replicas)
	answer, err := c.admin.AlterPartitionAssignments(t.Context(), request)
	if err == nil {
		err = answer.Error()
	}
	if err != nil {
		t.Fatalf("assign %s/%d to %d: %v", topic, partition, replicas, err)
	}
	waitFor(t, fmt.Sprintf("%s/%d on %d", topic, partition, replicas), func(ctx context.Context) bool {
		found, err := c.admin.ListTopics(ctx, topic)
		return err == nil && slices.Equal(found[topic].Partitions[partition].Replicas, replicas)
	})
}

// stopNode stops the broker with SIGTERM.
func (c *cluster) stopNode(t *testing.T, n *node) { t.Helper(); c.end(t, n, 30*time.Second) }

// killNode ends the broker with SIGKILL.
func (c *cluster) killNode(t *testing.T, n *node) { t.Helper(); c.end(t, n, 0) }

func (c *cluster) end(t *testing.T, n *node, patience time.Duration) {
	t.Helper()
	t.Cleanup(func() { c.startNode(t, n) })
	if err := n.container.Stop(t.Context(), &patience); err != nil {
		t.Fatalf("stop kafka %d: %v", n.id, err)
	}
}

// startNode starts the broker again and waits until it is a member of the cluster.
func (c *cluster) startNode(t *testing.T, n *node) {
	t.Helper()
	c.startNodes(t, n)
}

// startNodes starts all stopped brokers among nodes at the same time.
func (c *cluster) startNodes(t *testing.T, nodes ...*node) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 2*kafkaStartTimeout)
	defer cancel()
	started := false
	for _, n := range nodes {
		if n.container.IsRunning() {
			continue
		}
		started = true
		if err := n.container.Start(ctx); err != nil {
			t.Fatalf("start kafka %d again: %v", n.id, err)
		}
	}
	running := !slices.ContainsFunc(c.nodes[:], func(n *node) bool { return !n.container.IsRunning() })
	if !started || !running {
		return
	}
	if err := c.waitForNodes(ctx); err != nil {
		t.Fatal(err)
	}
}

// pause freezes the broker's processes: its connections stay open, and it answers nothing.
func (c *cluster) pause(t *testing.T, n *node) {
	t.Helper()
	t.Cleanup(func() { _ = n.docker(context.WithoutCancel(t.Context()), "unpause") }) // in case the test has not
	var err error
	waitWithin(t, patience, func() string { return fmt.Sprint("the broker is paused; last ", err) }, func(ctx context.Context) bool {
		err = n.docker(ctx, "pause") // on a very busy machine: unable to freeze
		return err == nil
	})
}

func (c *cluster) unpause(t *testing.T, n *node) {
	t.Helper()
	if err := n.docker(t.Context(), "unpause"); err != nil {
		t.Fatal(err)
	}
}

func (n *node) docker(ctx context.Context, command string) error {
	if out, err := exec.CommandContext(ctx, "docker", command, n.container.GetContainerID()).CombinedOutput(); err != nil {
		return fmt.Errorf("docker %s of kafka %d: %w\n%s", command, n.id, err, out)
	}
	return nil
}
