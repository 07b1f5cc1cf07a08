package integration

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/testcontainers/testcontainers-go"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// fetchSessions is how many fetch sessions the broker of [TestFetchSessionsEvicted] keeps: one in each shard of
// Kafka's session cache.
const fetchSessions = 8

// newSessionlessBroker starts a broker that keeps few fetch sessions.
func newSessionlessBroker(t *testing.T) *broker {
	t.Helper()
	sharedBroker(t).ownContainer(t, "eviction of fetch sessions")
	b := &broker{addresses: []string{freeAddress(t)}}
	ctx, cancel := context.WithTimeout(t.Context(), kafkaStartTimeout)
	defer cancel()
	var err error
	b.container, err = testcontainers.Run(ctx, kafkaImage(), kafkaContainer(bindPort(kafkaPort, b.addresses[0]), testcontainers.WithEnv(map[string]string{
		"KAFKA_HOST": "localhost", "KAFKA_PROPERTIES": fmt.Sprint("max.incremental.fetch.session.cache.slots=", fetchSessions),
	}))...)
	testcontainers.CleanupContainer(t, b.container, testcontainers.StopTimeout(0))
	if err != nil {
		t.Fatalf("start a broker: %v", err)
	}
	if err := b.connect(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.producer.Close)
	return b
}

// evict makes the broker give all its fetch sessions to a follower, because followers take precedence over
// consumers.
func (b *broker) evict(t *testing.T, topic string) {
	t.Helper()
	topics, err := b.admin.ListTopics(t.Context(), topic)
	if err != nil || topics.Error() != nil {
		t.Fatalf("list topic %s: %v, %v", topic, err, topics.Error())
	}
	given := make(map[int32]bool)
	waitFor(t, "a follower has all fetch sessions", func(ctx context.Context) bool {
		req := kmsg.NewPtrFetchRequest()
		req.ReplicaID, req.ReplicaState.ID, req.SessionEpoch = 99, 99, 0 // epoch 0 asks for a session
		wanted := kmsg.NewFetchRequestTopic()
		wanted.Topic, wanted.TopicID = topic, topics[topic].ID
		wanted.Partitions = []kmsg.FetchRequestTopicPartition{kmsg.NewFetchRequestTopicPartition()}
		req.Topics = append(req.Topics, wanted)
		res, err := b.producer.Broker(int(topics[topic].Partitions[0].Leader)).Request(ctx, req)
		if err != nil {
			t.Fatalf("fetch as a follower: %v", err)
		}
		if id := res.(*kmsg.FetchResponse).SessionID; id != 0 {
			given[id] = true
		}
		return len(given) == fetchSessions
	})
}

// writes returns how often the process has called write and the like.
func (h *herald) writes() int {
	h.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", h.command.Process.Pid))
	if err != nil {
		h.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "syscw: ")
	var calls int
	if _, err := fmt.Sscan(rest, &calls); err != nil {
		h.t.Fatalf("%s: %v", text, err)
	}
	return calls
}

// TestFetchSessionsEvicted reads with more fetch sessions than the broker keeps, and then without any, because the
// broker gives all sessions to a follower. The records of all partitions must arrive, and herald must not send
// fetches without waiting.
func TestFetchSessionsEvicted(t *testing.T) {
	const partitions = fetchSessions + 2
	b := newSessionlessBroker(t)
	topic := b.newTopic(t, "shared", partitions)
	h := startHerald(t, b, "--topic="+topic, "--kafka-session-partitions=1")
	alice := openStream(t, h, "alice")
	check := func(name string) {
		t.Helper()
		var want []string
		for p := range int32(partitions) {
			value := fmt.Sprint(name, " ", p)
			want = append(want, value)
			b.produce(t, inPartition(p, record(topic, "alice", value)))
		}
		slices.Sort(want)
		got := alice.Values(len(want))
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	check("more sessions than are kept")
	before, begun := h.writes(), time.Now()
	b.evict(t, topic)
	check("evicted")
	check("without sessions")
	time.Sleep(2 * time.Second) // the time in which the test counts writes
	calls := float64(h.writes()-before) / time.Since(begun).Seconds()
	t.Logf("%.0f writes a second", calls)
	if calls > 30*partitions { // 4 fetches a second for each partition, and other requests
		t.Errorf("%.0f writes a second: herald fetches without waiting", calls)
	}
	if strings.Contains(h.printed.String(), "partitions do not move") {
		t.Error("a partition was read again only because it had not moved for long")
	}
}
