package consumer

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"herald/consumer/logtail"
)

// metrics are the metrics of a consumer. The topics of users share one series, because a label for each user
// would make as many series as there are users.
type metrics struct {
	records     prometheus.Counter
	replayed    prometheus.Counter
	replays     prometheus.Counter
	tailReplays prometheus.Counter
	liveBytes   prometheus.Counter
	replayBytes prometheus.Counter
	cachedBytes prometheus.Counter
	passes      prometheus.Counter
	delayed     prometheus.Counter
	fetches     prometheus.Histogram
	errors      *prometheus.CounterVec
	generations prometheus.Counter
	rebalances  prometheus.Histogram
	commits     *prometheus.CounterVec
	misplaced   prometheus.Counter
	ownerless   *prometheus.CounterVec
	filtered    *prometheus.CounterVec
	undecodable *prometheus.CounterVec
	stalled     prometheus.Gauge
	up          prometheus.Gauge
}

// Values of the label use.
const (
	useLive   = "live"
	useReplay = "replay"
)

// Values of the label result.
const (
	resultOK    = "ok"
	resultError = "error"
)

// newMetrics returns metrics that are registered with reg, unless reg is nil.
func newMetrics(reg prometheus.Registerer) *metrics {
	bytes := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "herald_kafka_read_bytes_total", Help: "Bytes of record batches read from Kafka, by use: live or replay."}, []string{"use"})
	m := &metrics{
		records:     prometheus.NewCounter(prometheus.CounterOpts{Name: "herald_kafka_records_total", Help: "Records read live from Kafka."}),
		replayed:    prometheus.NewCounter(prometheus.CounterOpts{Name: "herald_kafka_replay_records_total", Help: "Records read for replays, from Kafka or from memory."}),
		replays:     prometheus.NewCounter(prometheus.CounterOpts{Name: "herald_kafka_replays_total", Help: "Replays requested; each is a range of one partition for one stream."}),
		tailReplays: prometheus.NewCounter(prometheus.CounterOpts{Name: "herald_kafka_tail_replays_total", Help: "Ranges that replays took from the tail, the newest records in memory, instead of Kafka."}),
		liveBytes:   bytes.WithLabelValues(useLive),
		replayBytes: bytes.WithLabelValues(useReplay),
		cachedBytes: prometheus.NewCounter(prometheus.CounterOpts{Name: "herald_kafka_replay_cached_bytes_total", Help: "Bytes of record batches that replays took from memory instead of Kafka."}),
		passes:      prometheus.NewCounter(prometheus.CounterOpts{Name: "herald_kafka_replay_passes_total", Help: "Passes over a part of a log; one pass serves all replays that wait for this part."}),
		delayed:     prometheus.NewCounter(prometheus.CounterOpts{Name: "herald_kafka_replays_delayed_total", Help: "Replays of streams that waited because passes had read more for their user than --replay-rate-per-user allows."}),
		fetches: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "herald_kafka_fetch_duration_seconds", Help: "Duration of live fetches; a broker without new records answers after 0.25 s, or after 1 s if no partition was added to the fetch session for 5 s.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .2, .3, .5, 1, 2.5, 5, 10},
		}),
		errors:      prometheus.NewCounterVec(prometheus.CounterOpts{Name: "herald_kafka_errors_total", Help: "Errors while Herald reads from Kafka or uses its consumer groups, by kind: contact, fetch, group, replay, moved, gone, denied, unreadable, out-of-range or other."}, []string{"kind"}),
		generations: prometheus.NewCounter(prometheus.CounterOpts{Name: "herald_kafka_generations_total", Help: "Generations of the consumer group that this replica joined."}),
		rebalances: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "herald_kafka_rebalance_duration_seconds", Help: "Time until this replica has joined a generation of its consumer group; it continues to read meanwhile.",
			Buckets: []float64{.01, .05, .1, .5, 1, 2.5, 5, 10, 30},
		}),
		commits: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "herald_kafka_commits_total", Help: "Offset commits, by result: ok or error."}, []string{"result"}),
		misplaced: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "herald_kafka_misplaced_records_total", Help: "Records left out of a stream because they are in another partition than the topic's partitioner chooses for the user; counted once for each open stream.",
		}),
		ownerless: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "herald_kafka_ownerless_records_total", Help: "Records read live that no user can ever get, by topic and by reason: no-key, no-header, not-json, no-field, wrong-type, empty, too-long, not-utf8, control-character, undecodable or no-topic.",
		}, []string{"topic", "reason"}),
		filtered: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "herald_kafka_filtered_records_total", Help: "Records read live that do not meet the condition (where=) of their route, by the topic of the route.",
		}, []string{"topic"}),
		undecodable: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "herald_kafka_undecodable_records_total", Help: "Records that the format of their route could not decode, by the topic of the route and by reason; counted once live if a stream wants the record, and once for each replay.",
		}, []string{"topic", "reason"}),
		stalled: prometheus.NewGauge(prometheus.GaugeOpts{Name: "herald_kafka_stalled_partitions", Help: "Partitions that have records to read and from which Herald has read nothing for at least 30 s. A partition does not count while it may be waiting for its turn among others that lag far."}),
		up:      prometheus.NewGauge(prometheus.GaugeOpts{Name: "herald_kafka_up", Help: "1 if Kafka answered the last metadata request, 0 if not."}),
	}
	for _, kind := range errorKinds {
		m.errors.WithLabelValues(kind) // 0 from the start, because alerts need a first value
	}
	for _, result := range []string{resultOK, resultError} {
		m.commits.WithLabelValues(result)
	}
	if reg != nil {
		reg.MustRegister(m.records, m.replayed, m.replays, m.tailReplays, m.passes, m.delayed, m.cachedBytes, bytes, m.fetches, m.errors, m.generations, m.rebalances, m.commits, m.misplaced, m.ownerless, m.filtered, m.undecodable, m.stalled, m.up)
	}
	return m
}

// recordContact records the outcome of a metadata request.
func (m *metrics) recordContact(err error) {
	if err != nil {
		m.errors.WithLabelValues(errorContact).Inc()
		m.up.Set(0)
		return
	}
	m.up.Set(1)
}

var lagDescription = prometheus.NewDesc("herald_kafka_lag_records",
	"Offsets from the next one to read to the end of a partition; one sum for all users' topics of a route, with the route as topic and an empty partition.",
	[]string{"topic", "partition"}, nil)

// lagCollector reports the lag of a reader's partitions at each scrape.
type lagCollector struct{ *liveReader }

// Describe implements [prometheus.Collector].
func (lagCollector) Describe(ch chan<- *prometheus.Desc) { ch <- lagDescription }

// Collect implements [prometheus.Collector].
func (l lagCollector) Collect(ch chan<- prometheus.Metric) {
	users := make(map[string]int64) // by route
	for _, p := range l.livePartitions() {
		lag := p.lag()
		if p.route.Kind == PerUser {
			users[p.route.Topic] += lag
			continue
		}
		ch <- prometheus.MustNewConstMetric(lagDescription, prometheus.GaugeValue, float64(lag), p.Topic, strconv.Itoa(int(p.ID)))
	}
	for topic, lag := range users {
		ch <- prometheus.MustNewConstMetric(lagDescription, prometheus.GaugeValue, float64(lag), topic, "")
	}
}

// newTailMetrics returns the metrics of a tail.
func newTailMetrics(tail *logtail.Tail) (bytes, age prometheus.Collector) {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "herald_kafka_tail_bytes", Help: "Memory that the tail takes, the newest records of all partitions.",
		}, func() float64 { return float64(tail.Bytes()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "herald_kafka_tail_age_seconds", Help: "Age of the tail: clients that return after a shorter time get their records from memory; 0 while the tail is empty.",
		}, func() float64 { return tail.Age().Seconds() })
}

var partitionsDescription = prometheus.NewDesc("herald_kafka_partitions",
	"Partitions read live, by the broker that Herald reads them from.", []string{"broker"}, nil)

// partitionsCollector reports how many partitions a reader reads from each broker at each scrape.
type partitionsCollector struct{ *liveReader }

// Describe implements [prometheus.Collector].
func (partitionsCollector) Describe(ch chan<- *prometheus.Desc) { ch <- partitionsDescription }

// Collect implements [prometheus.Collector].
func (p partitionsCollector) Collect(ch chan<- prometheus.Metric) {
	for broker, count := range p.countByBroker() {
		ch <- prometheus.MustNewConstMetric(partitionsDescription, prometheus.GaugeValue, float64(count), strconv.Itoa(int(broker)))
	}
}
