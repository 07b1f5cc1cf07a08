package integration

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// testReadsFromBrokerOfItsRack runs herald in a rack whose broker does not lead the partition. Herald must read the
// partition from this broker, live and for replays. When the broker is killed, herald must read from the leader, and
// no record may be lost.
func testReadsFromBrokerOfItsRack(t *testing.T) {
	c := sharedCluster(t)
	topic := c.newTopic(t, "shared", 1)
	leader, near := c.nodes[0], c.nodes[1]
	c.moveLeader(t, topic, 0, leader)
	h := startHerald(t, &c.broker, "--topic="+topic, "--kafka-rack="+near.rack)
	alice := openStream(t, h, "alice")
	start := alice.LastID
	readFrom := func(n *node) {
		t.Helper()
		waitFor(t, fmt.Sprint("the partition is read from broker ", n.id), func(context.Context) bool {
			return h.Metric(fmt.Sprintf(`herald_kafka_partitions{broker="%d"}`, n.id)) == 1
		})
	}
	var want []string
	check := func(phase string) {
		t.Helper()
		before := len(want)
		for n := range 50 {
			want = append(want, fmt.Sprint(phase, " ", n))
			c.produce(t, record(topic, "alice", want[len(want)-1]))
		}
		if diff := cmp.Diff(want[before:], alice.Values(50)); diff != "" {
			t.Errorf("%s, live (-want +got):\n%s", phase, diff)
		}
		again := newStream(t, h.public, "alice")
		again.LastID = start
		again.Reconnect()
		if diff := cmp.Diff(want, again.Values(len(want))); diff != "" {
			t.Errorf("%s, by replay (-want +got):\n%s", phase, diff)
		}
		again.Cut()
	}
	readFrom(near)
	check("from the broker of the rack")
	readFrom(near)
	c.killNode(t, near)
	check("that broker is killed")
	readFrom(leader)
	c.startNode(t, near)
	readFrom(near)
	check("that broker is back")
	c.moveLeader(t, topic, 0, near)
	check("that broker leads")
}
