package consumer

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// contract is a Kafka cluster on which the tests of the contract run.
type contract struct {
	addresses []string
	client    *kgo.Client // each record names its partition
	admin     *kadm.Client
	run       string // the start of the names of all topics and groups
	inProcess bool
}

// newContract connects to a cluster: to a new in-process broker, or to the running cluster that
// HERALD_TEST_BROKERS names. The integration tests set this variable to run the same tests, TestContract…,
// on Apache Kafka.
func newContract(t *testing.T) *contract {
	t.Helper()
	t.Parallel()
	return contractOn(t, func() []string {
		broker := newBroker(t, kfake.AllowAutoTopicCreation()) // Kafka creates topics by default
		return broker.ListenAddrs()
	})
}

// newContractAlone is like newContract, for a test that measures its own process: no other test runs at the
// same time, and the broker is a process of its own.
func newContractAlone(t *testing.T) *contract {
	t.Helper()
	return contractOn(t, func() []string {
		address, _ := brokerProcess(t, 0, 0)
		return []string{address}
	})
}

func contractOn(t *testing.T, start func() (addresses []string)) *contract {
	t.Helper()
	k := &contract{run: fmt.Sprintf("%s%d.", t.Name(), time.Now().UnixNano())}
	if list := os.Getenv("HERALD_TEST_BROKERS"); list != "" {
		k.addresses = strings.Split(list, ",")
	} else {
		k.addresses, k.inProcess = start(), true
	}
	k.client = k.connect(t)
	k.admin = kadm.NewClient(k.client)
	return k
}

// connect returns a client that writes each record to the partition the record names, without waiting for
// further records.
func (k *contract) connect(t *testing.T, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(k.addresses...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0), kgo.MetadataMinAge(100 * time.Millisecond),
		kgo.UnknownTopicRetries(100), kgo.AlwaysRetryEOF(), // for brokers that restart
	}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// topic creates a topic and returns its name. It tries for a minute: a topic that was deleted exists for a while, where
// ZooKeeper has the metadata, and brokers that have just started may be too few for the topic's replicas.
func (k *contract) topic(t *testing.T, name string, partitions int32) string {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		_, err := k.admin.CreateTopic(t.Context(), partitions, 1, nil, k.run+name)
		if err == nil {
			return k.run + name
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// read runs a consumer of the routes and waits until it reads all topics. The routes leave out k.run, with
// which the names of their topics begin.
func (k *contract) read(t *testing.T, specs ...string) (*Consumer, *ledger) {
	t.Helper()
	routes := []string{"group=" + k.run + "group"}
	for _, spec := range specs {
		routes = append(routes, k.run+spec)
	}
	sink := newLedger()
	c, _ := startWith(t, k.addresses, sink, routes...)
	ready(t, c)
	return c, sink
}

// write writes records of a user, one for each value, and returns their lines.
func (k *contract) write(t *testing.T, client *kgo.Client, topic string, partition int32, user string, values ...string) []string {
	t.Helper()
	var lines []string
	var records []*kgo.Record
	for _, value := range values {
		records = append(records, &kgo.Record{Topic: topic, Partition: partition, Key: []byte(user), Value: []byte(value)})
		lines = append(lines, user+" "+value)
	}
	if err := client.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatalf("produce to %s/%d: %v", topic, partition, err)
	}
	return lines
}

// forgetTail empties the partition's part of the tail, so that replays read the records from Kafka.
func forgetTail(t *testing.T, c *Consumer, p Partition) {
	t.Helper()
	live := c.reader.livePartition(p)
	live.mu.Lock()
	defer live.mu.Unlock()
	live.tail.Restart(live.next)
}

// checkReplay checks that a replay of the first partition of the topic returns the wanted lines of alice twice:
// once from the tail, and once from Kafka.
func checkReplay(t *testing.T, c *Consumer, topic string, want []string) {
	t.Helper()
	p := Partition{Topic: topic, ID: 0}
	_, end, err := c.Range(t.Context(), p, topicID(t, c, topic))
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, "live reading has reached the end of the log", func() bool { next, _ := c.reader.livePartition(p).position(); return next == end })
	fromKafka := testutil.ToFloat64(c.metrics.replayBytes)
	checkReplayOnce(t, c, topic, want)
	if testutil.ToFloat64(c.metrics.replayBytes) != fromKafka {
		t.Error("a replay of records that were read live reads from Kafka")
	}
	forgetTail(t, c, p)
	checkReplayOnce(t, c, topic, want)
	if testutil.ToFloat64(c.metrics.replayBytes) == fromKafka && len(want) > 0 {
		t.Error("a replay of records that the tail does not hold reads nothing from Kafka")
	}
}

// checkReplayOnce checks that a replay of the topic's first partition returns the wanted lines of alice. It replays
// up to 2,000 offsets at a time, because the tail refuses a range in which a user has many more records.
func checkReplayOnce(t *testing.T, c *Consumer, topic string, want []string) {
	t.Helper()
	p, id := Partition{Topic: topic, ID: 0}, topicID(t, c, topic)
	start, end, err := c.Range(t.Context(), p, id)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for at := start; at < end; {
		next, err := replayOne(t.Context(), c, p, id, "alice", at, min(at+2000, end), func(r *Record) bool {
			got = append(got, line(r))
			return true
		})
		if err != nil || next <= at {
			t.Fatalf("replay of %s from %d to %d ends at %d: %v", p, at, end, next, err)
		}
		at = next
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("replay of %s (-want +got):\n%.2000s", p, diff)
	}
}
