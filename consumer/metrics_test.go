package consumer

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// meter reads the metrics of a consumer.
type meter struct {
	t     *testing.T
	reg   *prometheus.Registry
	moved map[string]bool // the names of the metrics whose awaited value came

	schemas *gatedFormat // of the routes with a format
}

// series returns the values by name{label values}. The value of a histogram is its number of observations.
func (m *meter) series() map[string]float64 {
	m.t.Helper()
	families, err := m.reg.Gather()
	if err != nil {
		m.t.Fatal(err)
	}
	values := make(map[string]float64)
	for _, f := range families {
		for _, s := range f.GetMetric() {
			var labels []string
			for _, l := range s.GetLabel() {
				labels = append(labels, l.GetValue())
			}
			name := f.GetName() + "{" + strings.Join(labels, ",") + "}"
			values[name] = s.GetCounter().GetValue() + s.GetGauge().GetValue() + float64(s.GetHistogram().GetSampleCount())
		}
	}
	return values
}

// await waits until is accepts the value of the series.
func (m *meter) await(series string, is func(float64) bool) {
	m.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		value, ok := m.series()[series]
		if ok && is(value) {
			name, _, _ := strings.Cut(series, "{")
			m.moved[name] = true
			return
		}
		if time.Now().After(deadline) {
			m.t.Fatalf("%s is still %v after 30 s (registered: %v)", series, value, ok)
		}
	}
}

// rise calls cause and waits until each of the series has risen.
func (m *meter) rise(cause func(), series ...string) {
	m.t.Helper()
	before := m.series()
	cause()
	for _, s := range series {
		m.await(s, func(value float64) bool { return value > before[s] })
	}
}

func zero(value float64) bool     { return value == 0 }
func positive(value float64) bool { return value > 0 }

// metered runs a consumer of the routes with registered metrics. FetchMaxBytes is so small that an answer to
// a fetch holds one batch.
func metered(t *testing.T, broker *kfake.Cluster, routes ...string) (*meter, *Consumer, *ledger, *Producer) {
	t.Helper()
	m := &meter{t, prometheus.NewRegistry(), make(map[string]bool), newGatedFormat()}
	cfg := Config{Brokers: broker.ListenAddrs(), Group: "test", Replica: "one", FetchMaxBytes: 1, ReplayRatePerUser: 1 << 20, Registry: m.reg, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))}
	for _, text := range routes {
		route, err := ParseRoute(text)
		if err != nil {
			t.Fatal(err)
		}
		cfg.Routes = append(cfg.Routes, route)
	}
	sink := newLedger()
	c, err := New(cfg, sink)
	if err != nil {
		t.Fatal(err)
	}
	c.reader.stallAfter = time.Second
	setFormat(c, m.schemas)
	run(t, c)
	producer := NewProducer(broker.ListenAddrs(), nil, nil)
	t.Cleanup(producer.Close)
	return m, c, sink, producer
}

// TestEveryMetricCountsItsEvent checks that each metric of the consumer takes the value of the event or the
// state that it measures. A metric that the test does not cover fails the test.
func TestEveryMetricCountsItsEvent(t *testing.T) {
	t.Parallel()
	broker := newBroker(t, kfake.SeedTopics(1, "shared", "json", "value"))
	m, c, _, producer := metered(t, broker, "shared,partitioner=murmur2", "json,user=json:/owner", "value,format=confluent-json,user=json:/owner")
	ready(t, c)
	m.await("herald_kafka_up{}", positive)
	m.await("herald_kafka_partitions{0}", func(value float64) bool { return value == 3 })
	m.rise(func() {}, "herald_kafka_fetch_duration_seconds{}")
	m.await("herald_kafka_generations_total{}", positive)
	m.await("herald_kafka_rebalance_duration_seconds{}", positive)

	live := []string{"herald_kafka_records_total{}", "herald_kafka_read_bytes_total{live}"}
	m.rise(func() { sequence(t, producer, "shared", "alice", "a", 3) }, live...)
	m.rise(func() { produce(t, producer, "json", "", `{"owner":""}`) }, append(live, "herald_kafka_ownerless_records_total{empty,json}")...)
	waiting := "herald_kafka_schema_waiting_partitions{}"
	m.await(waiting, zero)
	m.rise(func() { produce(t, producer, "value", "", "new:{}") }, waiting)
	m.rise(func() { m.schemas.open("new"); produce(t, producer, "value", "", "bad:{}") }, "herald_kafka_undecodable_records_total{mismatch,value}")
	m.await(waiting, zero)
	m.await("herald_kafka_commits_total{ok}", positive)
	m.rise(func() {
		broker.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}})
		produce(t, producer, "shared", "bob", "to commit")
	}, "herald_kafka_commits_total{error}")

	// A stream reports a record in a partition other than its user's home.
	topics := c.UserTopics("alice")
	m.rise(func() { topics[1].Homes.RecordMisplaced("alice", Position{Partition{Topic: "shared", ID: 0}, 0}) }, "herald_kafka_misplaced_records_total{}")

	m.countReplays(c)

	// While the broker holds a fetch, the metrics show the lag and the stalled partition.
	lag := "herald_kafka_lag_records{0,shared}"
	m.await(lag, zero)
	m.await("herald_kafka_stalled_partitions{}", zero)
	g := newGate(broker)
	g.await(t, 1)
	sequence(t, producer, "shared", "alice", "held", 3)
	m.await(lag, func(value float64) bool { return value == 3 })
	m.await("herald_kafka_stalled_partitions{}", positive)
	close(g.pass)
	m.await(lag, zero)
	m.await("herald_kafka_stalled_partitions{}", zero)

	broker.Close()
	m.await("herald_kafka_up{}", zero)
	m.await("herald_kafka_errors_total{contact}", positive)

	var names []string
	for series := range m.series() {
		name, _, _ := strings.Cut(series, "{")
		names = append(names, name)
	}
	slices.Sort(names)
	if diff := cmp.Diff(slices.Compact(names), slices.Sorted(maps.Keys(m.moved))); diff != "" {
		t.Errorf("registered metrics and metrics whose awaited value came (-registered +came):\n%s", diff)
	}
}

// countReplays checks the metrics of four replays of the topic shared: the first replay reads from the tail, the
// second one from Kafka, and the third one what the second one has kept in memory. The fourth one waits, because its
// user has cost too much.
func (m *meter) countReplays(c *Consumer) {
	m.t.Helper()
	replay := func() {
		next, err := replayOne(m.t.Context(), c, Partition{Topic: "shared", ID: 0}, topicID(m.t, c, "shared"), "alice", 0, 3, func(*Record) bool { return true })
		if next != 3 || err != nil {
			m.t.Errorf("the replay ends at %d with error %v, want 3 and no error", next, err)
		}
	}
	counted := []string{"herald_kafka_replays_total{}", "herald_kafka_replay_passes_total{}", "herald_kafka_replay_records_total{}"}
	cached := "herald_kafka_replay_cached_bytes_total{}"
	m.await("herald_kafka_tail_bytes{}", positive)
	m.await("herald_kafka_tail_age_seconds{}", positive)
	m.rise(replay, "herald_kafka_replays_total{}", "herald_kafka_replay_records_total{}", "herald_kafka_tail_replays_total{}")
	forgetTail(m.t, c, Partition{Topic: "shared", ID: 0})
	m.rise(replay, append(counted, "herald_kafka_read_bytes_total{replay}")...)
	if m.series()[cached] != 0 {
		m.t.Error("bytes that came from Kafka are counted as cached")
	}
	m.rise(replay, append(counted, cached)...)
	c.scans.costs.Charge("alice", (costBurst+2)<<20, time.Now()) // 2 s of the rate more than the user may save up
	m.rise(replay, append(counted, "herald_kafka_replays_delayed_total{}")...)
}

// TestLagOfUserTopicsNamesNoUser checks that the lags of all users' topics of a route are added up in one
// series, and that no series has a user's name.
func TestLagOfUserTopicsNamesNoUser(t *testing.T) {
	t.Parallel()
	broker := newBroker(t, kfake.SeedTopics(1, "own.alice", "own.bob"))
	m, c, _, producer := metered(t, broker, "own.{user}")
	for _, user := range []string{"alice", "bob"} {
		if _, err := c.Join(t.Context(), user); err != nil {
			t.Fatal(err)
		}
	}
	g := newGate(broker)
	g.await(t, 1)
	sequence(t, producer, "own.alice", "", "a", 5)
	sequence(t, producer, "own.bob", "", "b", 3)
	read := func(user string) int64 {
		next, _ := c.reader.livePartition(Partition{Topic: "own." + user, ID: 0}).position()
		return next
	}
	for read("alice") == 0 || read("bob") == 0 { // the lag of a partition is known once a broker has answered
		g.pass <- struct{}{}
		g.await(t, 1) // the next fetch comes after the reader has processed the answer
	}
	lag := "herald_kafka_lag_records{,own.{user}}"
	m.await(lag, func(value float64) bool { return value > 0 && value == float64(5+3-read("alice")-read("bob")) })
	var series []string
	for s := range m.series() {
		if strings.Contains(s, "alice") || strings.Contains(s, "bob") {
			t.Errorf("the series %s names a user", s)
		}
		if strings.HasPrefix(s, "herald_kafka_lag_records") {
			series = append(series, s)
		}
	}
	if diff := cmp.Diff([]string{lag}, series); diff != "" {
		t.Errorf("series of the lag (-want +got):\n%s", diff)
	}
	close(g.pass)
	m.await(lag, zero)
}

// TestErrorsAreCountedByKind checks that an error of the broker raises the counter of its kind. Other tests
// check the kinds contact and group.
func TestErrorsAreCountedByKind(t *testing.T) {
	t.Parallel()
	live := func(req kmsg.Request) bool { return req.(*kmsg.FetchRequest).SessionEpoch != -1 }
	fetch := func(err *kerr.Error) kfake.Fault {
		return kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Err: err, When: live}
	}
	broker := newBroker(t, kfake.SeedTopics(1, "t", "spoilt"))
	m, c, sink, producer := metered(t, broker, "t", "spoilt")
	ready(t, c)
	var want []string
	for kind, fault := range map[string]kfake.Fault{
		"fetch":        {Keys: []kmsg.Key{kmsg.Fetch}, TopLevel: true, When: live},
		"moved":        fetch(kerr.NotLeaderForPartition),
		"gone":         fetch(kerr.UnknownTopicID),
		"denied":       fetch(kerr.TopicAuthorizationFailed),
		"out-of-range": fetch(kerr.OffsetOutOfRange),
		"other":        fetch(kerr.UnknownServerError),
		"replay": {Keys: []kmsg.Key{kmsg.Fetch}, Err: kerr.KafkaStorageError, When: func(req kmsg.Request) bool {
			return !live(req)
		}},
	} {
		m.rise(func() {
			broker.Fault(fault)
			want = append(want, sequence(t, producer, "t", "alice", kind, 1)...)
			sink.wantLines(t, sortedCopy(want))
			if kind == "replay" {
				forgetTail(t, c, Partition{Topic: "t", ID: 0})
				if _, err := replayOne(t.Context(), c, Partition{Topic: "t", ID: 0}, topicID(t, c, "t"), "alice", 0, 1, func(*Record) bool { return true }); !errors.Is(err, kerr.KafkaStorageError) {
					t.Errorf("the replay ends with error %v, want %v", err, kerr.KafkaStorageError)
				}
			}
		}, fmt.Sprintf("herald_kafka_errors_total{%s}", kind))
	}
	batch, err := encode(Message{Value: []byte("x")})
	if err != nil {
		t.Fatal(err)
	}
	batch[len(batch)-1] ^= 1
	answerOnce(broker, topicID(t, c, "spoilt"), batch)
	// Without its session, the consumer sends a full fetch, which names all partitions.
	m.rise(func() {
		broker.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Err: kerr.FetchSessionIDNotFound, TopLevel: true, When: live})
	}, "herald_kafka_errors_total{unreadable}")
	want = append(want, sequence(t, producer, "spoilt", "alice", "after the corrupt batch", 1)...)
	sink.wantLines(t, sortedCopy(want))
	elsewhere := []string{"herald_kafka_errors_total{contact}", "herald_kafka_errors_total{group}"}
	for series, value := range m.series() {
		if strings.HasPrefix(series, "herald_kafka_errors_total") && value == 0 && !slices.Contains(elsewhere, series) {
			t.Errorf("%s is 0, want it to rise", series)
		}
	}
}

// answerOnce answers one fetch of the topic with the batch.
func answerOnce(broker *kfake.Cluster, topicID [16]byte, batch []byte) {
	broker.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		for _, topic := range req.(*kmsg.FetchRequest).Topics {
			if topic.TopicID != topicID {
				continue
			}
			part := kmsg.NewFetchResponseTopicPartition()
			part.RecordBatches, part.HighWatermark, part.LastStableOffset = batch, 1, 1
			res := req.ResponseKind().(*kmsg.FetchResponse)
			res.Topics = append(res.Topics, kmsg.FetchResponseTopic{TopicID: topicID, Partitions: []kmsg.FetchResponseTopicPartition{part}})
			return res, nil, true
		}
		return nil, nil, false
	})
}
