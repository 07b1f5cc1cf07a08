package integration

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
)

// testLeaderKilled kills a broker, as kill -9 does, and starts it again. The broker is the only one in Herald's
// --brokers, leads a partition and coordinates Herald's consumer group. The offsets of the records read meanwhile
// must be committed to the next coordinator.
func testLeaderKilled(t *testing.T) {
	c := sharedCluster(t)
	n := c.nodes[0]
	tr := startTraffic(t, c, n)
	lane := tr.lanes[0]
	group := ""
	for _, arg := range tr.h.args {
		if name, ok := strings.CutPrefix(arg, "--group="); ok {
			group = name + ".test"
		}
	}
	// c.admin cannot be used here: after a refused connection, franz-go's client does not look for a new
	// coordinator and keeps asking the dead broker.
	committed := func() int64 {
		answer, err := c.client.OffsetFetch(t.Context(), &kafka.OffsetFetchRequest{GroupID: group, Topics: map[string][]int{lane.topic: {int(lane.partition)}}})
		if err != nil || answer.Error != nil || len(answer.Topics[lane.topic]) != 1 {
			return -1
		}
		return answer.Topics[lane.topic][0].CommittedOffset
	}
	waitFor(t, "an offset is committed", func(context.Context) bool { return committed() > 0 })
	c.moveLeader(t, lane.topic, lane.partition, n)
	for p := range int32(offsetsPartitions) {
		c.moveLeader(t, "__consumer_offsets", p, n)
	}
	tr.Advance()
	c.killNode(t, n)
	tr.Advance()
	tr.checkUp()
	at := lane.written.Load()
	waitFor(t, "the offset after the records read since then is committed", func(context.Context) bool { return committed() >= at })
	c.startNode(t, n)
	tr.Advance()
	tr.Finish()
	tr.checkUp()
	tr.h.wantErrors("fetch")
	tr.h.wantLine(fmt.Sprintf(`level=WARN msg="broker cannot be read; retrying" broker=%d sessions=\d+ partitions=\d+ topic=\S+ partition=\d+ offset=\d+ error=`, n.id))
}

// offsetsPartitions is how many partitions start.sh gives __consumer_offsets.
const offsetsPartitions = 4

// testBrokersRestarted stops and starts each broker, one after the other, as an upgrade does.
func testBrokersRestarted(t *testing.T) {
	c := sharedCluster(t)
	tr := startTraffic(t, c)
	for _, n := range c.nodes {
		c.stopNode(t, n)
		tr.Advance()
		c.startNode(t, n)
		for _, l := range tr.lanes {
			c.waitInSync(t, l.topic)
		}
	}
	tr.Advance()
	tr.Finish()
	tr.checkUp()
	if tr.h.Metric(`herald_kafka_errors_total{kind="fetch"}`) > 0 { // not if herald has left each broker before it stopped
		tr.h.wantLine(`level=WARN msg="broker cannot be read; retrying" broker=\d+ sessions=\d+ partitions=\d+ topic=\S+ partition=\d+ offset=\d+ error=`)
	}
}

// testLeaderMoved gives a partition of each kind of topic to each broker in turn.
func testLeaderMoved(t *testing.T) {
	c := sharedCluster(t)
	tr := startTraffic(t, c)
	for _, n := range c.nodes {
		for _, l := range tr.lanes[2:] {
			c.moveLeader(t, l.topic, l.partition, n)
		}
		tr.Advance()
	}
	tr.Finish()
	tr.checkUp()
	if down := tr.h.Metric(`herald_kafka_errors_total{kind="contact"}`); down != 0 {
		t.Errorf("%v times Kafka was reported as not answering, want 0, because brokers were up all the time", down)
	}
	// A former leader that still follows answers fetches (KIP-392), so nothing is refused.
	series := fmt.Sprintf(`herald_kafka_partitions{broker="%d"}`, c.nodes[clusterSize-1].id)
	waitFor(t, "the moved partitions are read from their leaders", func(context.Context) bool { return tr.h.Metric(series) >= float64(len(tr.lanes[2:])) })
	if strings.Contains(tr.h.printed.String(), "level=WARN") {
		t.Error("there is a warning, although brokers were up all the time")
	}
}

// testAllBrokersStopped stops Kafka as a whole for a while.
func testAllBrokersStopped(t *testing.T) {
	c := sharedCluster(t)
	tr := startTraffic(t, c)
	tr.checkUp()
	for _, n := range c.nodes {
		c.killNode(t, n)
	}
	tr.h.WaitNotReady()
	if up := tr.h.Metric("herald_kafka_up"); up != 0 {
		t.Errorf("herald_kafka_up = %v without a broker, want 0", up)
	}
	errors := tr.h.Metric(`herald_kafka_errors_total{kind="contact"}`)
	time.Sleep(20 * time.Second) // longer than Kafka's and Herald's timeouts
	if more := tr.h.Metric(`herald_kafka_errors_total{kind="contact"}`); more <= errors {
		t.Errorf("herald_kafka_errors_total of kind contact stays at %v while no broker is up", more)
	}
	c.startNodes(t, c.nodes[:]...)
	tr.h.WaitReady()
	tr.Advance()
	tr.Finish()
	tr.checkUp()
	tr.h.wantErrors("fetch")
	tr.h.wantLine(`level=WARN msg="kafka does not answer; streams stay open, retrying" brokers=`)
	tr.h.wantLine(`level=INFO msg="kafka answers" brokers=(.*\n)*.*level=INFO msg="kafka answers" brokers=`)
}

// testBrokerPaused pauses a broker, which then accepts connections and requests and never answers. Records of
// partitions with other leaders must keep arriving. Records of its own partitions must arrive when another broker
// leads them or, for a partition whose only replica it has, when it answers again. Herald's --brokers names no
// other broker. While the broker is paused, the test opens a stream. Herald must not report to this stream that replay
// has met live until the broker answers, and operators must see that the stream waits for Kafka.
func testBrokerPaused(t *testing.T) {
	c := sharedCluster(t)
	n := c.nodes[0]
	tr := startTraffic(t, c, n)
	only := tr.lanes[0]
	for _, l := range tr.lanes[:2] {
		c.moveLeader(t, l.topic, l.partition, n)
	}
	c.assign(t, only.topic, only.partition, n.id)
	tr.Advance()
	c.pause(t, n)
	tr.AdvanceIn(tr.lanes[1:]...)
	tr.checkUp()
	live := newStream(t, tr.h.public, "carol") // who gets no records but those for everyone
	live.Connect()
	for before := time.Now(); time.Since(before) < 3*time.Second; {
		if e := live.Event(); strings.Contains(e.Data, `"live":true`) {
			t.Errorf("a new stream is told that replay has met live while a partition's only broker does not answer: %+v", e)
		}
	}
	tr.h.waitState("carol", "waiting-for-kafka")
	c.unpause(t, n)
	for e := live.Event(); !strings.Contains(e.Data, `"live":true`); {
		e = live.Event()
	}
	tr.h.waitState("carol", "live")
	live.Cut()
	tr.Advance()
	tr.Finish()
	tr.checkUp()
	tr.h.wantErrors("fetch")
	tr.h.wantLine(fmt.Sprintf(`level=WARN msg="broker cannot be read; retrying" broker=%d `, n.id))
	tr.h.wantLine(fmt.Sprintf(`level=INFO msg="broker is read again" broker=%d `, n.id))
}

// testTooFewReplicasInSync stops a broker without which a topic has too few replicas in sync (min.insync.replicas). A record
// published there must not be confirmed and never be delivered, while another topic works. When the broker is
// back, the first topic must work again.
func testTooFewReplicasInSync(t *testing.T) {
	c := sharedCluster(t)
	strict, other := topicName(t, "strict"), c.newTopic(t, "other", 1)
	c.broker.createTopic(t, strict, 1, "min.insync.replicas", strconv.Itoa(clusterSize))
	c.waitInSync(t, strict)
	h := startHerald(t, &c.broker, "--topic="+strict, "--topic="+other+",kind=broadcast", "--enable-publish")
	alice := openStream(t, h, "alice")
	publishTo(t, h, "/users/alice/notifications", "before", strict)
	if got := alice.Record().Data; got != "before" {
		t.Errorf("got %q, want what was published while all brokers were up", got)
	}
	n := c.nodes[0]
	if n == c.leaderOf(t, strict, 0) {
		n = c.nodes[1]
	}
	c.stopNode(t, n)
	waitFor(t, "the stopped broker is out of sync", func(ctx context.Context) bool {
		found, err := c.admin.ListTopics(ctx, strict)
		return err == nil && len(found[strict].Partitions[0].ISR) < clusterSize
	})
	if a := mustSend(t, http.MethodPost, "http://"+h.public+"/users/alice/notifications", "refused", "Content-Type", "application/json"); a.status < http.StatusInternalServerError {
		t.Errorf("status %d while too few brokers have the topic, want an error", a.status)
	}
	publishTo(t, h, "/broadcast", "other", other)
	if got := alice.Record().Data; got != "other" {
		t.Errorf("got %q, want the record of the other topic", got)
	}
	c.startNode(t, n)
	c.waitInSync(t, strict)
	publishTo(t, h, "/users/alice/notifications", "after", strict)
	if got := alice.Record().Data; got != "after" {
		t.Errorf("got %q, want what was published since the broker is back", got)
	}
}

// wantErrors checks that errors of the kind were counted.
func (h *herald) wantErrors(kind string) {
	h.t.Helper()
	if series := fmt.Sprintf("herald_kafka_errors_total{kind=%q}", kind); h.Metric(series) == 0 {
		h.t.Errorf("%s is 0, want a count", series)
	}
}

// wantLine waits until the log matches the regular expression.
func (h *herald) wantLine(pattern string) {
	h.t.Helper()
	exp := regexp.MustCompile(pattern)
	waitFor(h.t, "the log says "+pattern, func(context.Context) bool { return exp.MatchString(h.printed.String()) })
}

// checkUp checks that herald reports Kafka as up and that no log line blames the configuration.
func (tr *traffic) checkUp() {
	tr.t.Helper()
	tr.h.WaitReady()
	if up := tr.h.Metric("herald_kafka_up"); up != 1 {
		tr.t.Errorf("herald_kafka_up = %v, want 1", up)
	}
	if strings.Contains(tr.h.printed.String(), "does the listener") {
		tr.t.Error("the log blames herald's configuration for a broker that is down")
	}
}
