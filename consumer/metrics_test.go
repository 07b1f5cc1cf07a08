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

// meter looks at the metrics of a consumer.
type meter struct {
	t     *testing.T
	reg   *prometheus.Registry
	moved map[string]bool // names of metrics that were seen to move
}

// series returns the values by name{label values}; of a histogram how often it was observed.
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

// await waits until the series has such a value.
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
			m.t.Fatalf("%s is %v (there: %v)", series, value, ok)
		}
	}
}

// rise wants each of the series to rise by what cause does.
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

// metered runs a consumer of the routes whose metrics are registered. An answer to a fetch has one
// batch.
func metered(t *testing.T, broker *kfake.Cluster, routes ...string) (*meter, *Consumer, *ledger, *Producer) {
	t.Helper()
	m := &meter{t, prometheus.NewRegistry(), make(map[string]bool)}
	cfg := Config{Brokers: broker.ListenAddrs(), Group: "test", Replica: "one", FetchMaxBytes: 1, Registry: m.reg, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))}
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
	run(t, c)
	producer := NewProducer(broker.ListenAddrs(), nil, nil)
	t.Cleanup(producer.Close)
	return m, c, sink, producer
}

func newBroker(t *testing.T, topics ...string) *kfake.Cluster {
	t.Helper()
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, topics...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Close)
	return broker
}

// TestMetrics moves every metric that there is by what it counts.
func TestMetrics(t *testing.T) {
	t.Parallel()
	broker := newBroker(t, "shared", "json")
	m, c, _, producer := metered(t, broker, "shared,partitioner=murmur2", "json,user=json:/owner")
	ready(t, c)
	m.await("herald_kafka_up{}", positive)
	m.await("herald_kafka_partitions{0}", func(value float64) bool { return value == 2 })
	m.rise(func() {}, "herald_kafka_fetch_duration_seconds{}")
	m.await("herald_kafka_generations_total{}", positive)
	m.await("herald_kafka_rebalance_duration_seconds{}", positive)

	live := []string{"herald_kafka_records_total{}", "herald_kafka_read_bytes_total{live}"}
	m.rise(func() { sequence(t, producer, "shared", "alice", "a", 3) }, live...)
	m.rise(func() { produce(t, producer, "json", "", `{"owner":""}`) }, append(live, "herald_kafka_ownerless_records_total{}")...)
	m.await("herald_kafka_commits_total{ok}", positive)
	m.rise(func() {
		broker.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}})
		produce(t, producer, "shared", "bob", "to commit")
	}, "herald_kafka_commits_total{error}")

	// Streams tell their homes of what is not there.
	sources := c.UserTopics("alice")
	m.rise(func() { sources[1].Homes.Misplaced("alice", Position{Partition{Topic: "shared", ID: 0}, 0}) }, "herald_kafka_misplaced_records_total{}")

	replay := func() {
		next, err := replayOne(t.Context(), c, Partition{Topic: "shared", ID: 0}, topicID(t, c, "shared"), "alice", 0, 3, func(*Record) bool { return true })
		if next != 3 || err != nil {
			t.Errorf("replay to %d, %v", next, err)
		}
	}
	again := []string{"herald_kafka_replays_total{}", "herald_kafka_replay_passes_total{}", "herald_kafka_replay_records_total{}"}
	cached := "herald_kafka_replay_cached_bytes_total{}"
	m.rise(replay, append(again, "herald_kafka_read_bytes_total{replay}")...)
	if m.series()[cached] != 0 {
		t.Error("bytes that came from Kafka are counted as cached")
	}
	m.rise(replay, append(again, cached)...)

	// A fetch is held: the lag is told, and the stall.
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
		t.Errorf("metrics that there are, and those that were seen to move (-there +moved):\n%s", diff)
	}
}

// TestLagOfUsers wants one series for all users' topics of a route, the sum of theirs, and no user's
// name in any.
func TestLagOfUsers(t *testing.T) {
	t.Parallel()
	broker := newBroker(t, "own.alice", "own.bob")
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
	for read("alice") == 0 || read("bob") == 0 { // what is not read of a partition is known by an answer
		g.pass <- struct{}{}
		g.await(t, 1) // the next fetch, so the answer was taken in
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
		t.Errorf("(-want +got):\n%s", diff)
	}
	close(g.pass)
	m.await(lag, zero)
}

// TestErrorsByKind has the broker answer with an error of each kind but contact and group, which have tests of
// their own: it is counted as that.
func TestErrorsByKind(t *testing.T) {
	t.Parallel()
	live := func(req kmsg.Request) bool { return req.(*kmsg.FetchRequest).SessionEpoch != -1 }
	fetch := func(err *kerr.Error) kfake.Fault {
		return kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Err: err, When: live}
	}
	broker := newBroker(t, "t", "spoilt")
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
				if _, err := replayOne(t.Context(), c, Partition{Topic: "t", ID: 0}, topicID(t, c, "t"), "alice", 0, 1, func(*Record) bool { return true }); !errors.Is(err, kerr.KafkaStorageError) {
					t.Errorf("replay: %v, want %v", err, kerr.KafkaStorageError)
				}
			}
		}, fmt.Sprintf("herald_kafka_errors_total{%s}", kind))
	}
	batch, err := encode(Message{Value: []byte("x")})
	if err != nil {
		t.Fatal(err)
	}
	batch[len(batch)-1] ^= 1
	id := topicID(t, c, "spoilt")
	broker.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		for _, topic := range req.(*kmsg.FetchRequest).Topics {
			if topic.TopicID != id {
				continue
			}
			part := kmsg.NewFetchResponseTopicPartition()
			part.RecordBatches, part.HighWatermark, part.LastStableOffset = batch, 1, 1
			res := req.ResponseKind().(*kmsg.FetchResponse)
			res.Topics = append(res.Topics, kmsg.FetchResponseTopic{TopicID: id, Partitions: []kmsg.FetchResponseTopicPartition{part}})
			return res, nil, true
		}
		return nil, nil, false
	})
	// A full fetch, which names all partitions.
	m.rise(func() {
		broker.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Err: kerr.FetchSessionIDNotFound, TopLevel: true, When: live})
	}, "herald_kafka_errors_total{unreadable}")
	want = append(want, sequence(t, producer, "spoilt", "alice", "behind it", 1)...)
	sink.wantLines(t, sortedCopy(want))
	elsewhere := []string{"herald_kafka_errors_total{contact}", "herald_kafka_errors_total{group}"}
	for series, value := range m.series() {
		if strings.HasPrefix(series, "herald_kafka_errors_total") && value == 0 && !slices.Contains(elsewhere, series) {
			t.Errorf("%s was not seen to rise", series)
		}
	}
}
