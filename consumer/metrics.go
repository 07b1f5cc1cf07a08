package consumer

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the consumer's. Users' topics share one series: a label a user would make as many
// series as there are users.
type metrics struct {
	records     prometheus.Counter
	replayed    prometheus.Counter
	replays     prometheus.Counter
	liveBytes   prometheus.Counter
	replayBytes prometheus.Counter
	cachedBytes prometheus.Counter
	passes      prometheus.Counter
	fetches     prometheus.Histogram
	errors      *prometheus.CounterVec
	generations prometheus.Counter
	rebalances  prometheus.Histogram
	commits     *prometheus.CounterVec
	misplaced   prometheus.Counter
	ownerless   prometheus.Counter
	stalled     prometheus.Gauge
	up          prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) *metrics {
	bytes := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "herald_kafka_read_bytes_total", Help: "Record batch bytes read from Kafka, by use: live or replay."}, []string{"use"})
	m := &metrics{
		records:     prometheus.NewCounter(prometheus.CounterOpts{Name: "herald_kafka_records_total", Help: "Records read live from Kafka."}),
		replayed:    prometheus.NewCounter(prometheus.CounterOpts{Name: "herald_kafka_replay_records_total", Help: "Records read again for replays."}),
		replays:     prometheus.NewCounter(prometheus.CounterOpts{Name: "herald_kafka_replays_total", Help: "Replays asked for: a range of a partition for one stream."}),
		liveBytes:   bytes.WithLabelValues("live"),
		replayBytes: bytes.WithLabelValues("replay"),
		cachedBytes: prometheus.NewCounter(prometheus.CounterOpts{Name: "herald_kafka_replay_cached_bytes_total", Help: "Record batch bytes that replays had from memory."}),
		passes:      prometheus.NewCounter(prometheus.CounterOpts{Name: "herald_kafka_replay_passes_total", Help: "Passes over a part of a log, each for all replays that waited for it."}),
		fetches: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "herald_kafka_fetch_duration_seconds", Help: "Time from a live fetch to its answer; a broker without news waits 0.25 s, or 1 s where no partition was added for a while.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .2, .3, .5, 1, 2.5, 5, 10},
		}),
		errors:      prometheus.NewCounterVec(prometheus.CounterOpts{Name: "herald_kafka_errors_total", Help: "Errors while reading from Kafka or using the consumer groups, by kind: contact, fetch, group, replay, moved, gone, denied, unreadable, out-of-range or other."}, []string{"kind"}),
		generations: prometheus.NewCounter(prometheus.CounterOpts{Name: "herald_kafka_generations_total", Help: "Generations of the consumer group joined."}),
		rebalances: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "herald_kafka_rebalance_duration_seconds", Help: "Time to join a generation of the consumer group; reading goes on meanwhile.",
			Buckets: []float64{.01, .05, .1, .5, 1, 2.5, 5, 10, 30},
		}),
		commits: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "herald_kafka_commits_total", Help: "Offset commits, by result: ok or error."}, []string{"result"}),
		misplaced: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "herald_kafka_misplaced_records_total", Help: "Records left out of a stream because they were not where the topic's partitioner puts the user; counted for each open stream.",
		}),
		ownerless: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "herald_kafka_ownerless_records_total", Help: "Records read live whose value has no user where the topic's user=json:… looks for one.",
		}),
		stalled: prometheus.NewGauge(prometheus.GaugeOpts{Name: "herald_kafka_stalled_partitions", Help: "Partitions that have records to read and have not moved for half a minute."}),
		up:      prometheus.NewGauge(prometheus.GaugeOpts{Name: "herald_kafka_up", Help: "1 while Kafka answers metadata requests."}),
	}
	for _, kind := range []string{"contact", "fetch", "replay", "group", errorMoved, errorGone, errorDenied, "unreadable", "out-of-range", errorOther} {
		m.errors.WithLabelValues(kind) // 0 from the start, as alerts want it
	}
	for _, result := range []string{"ok", "error"} {
		m.commits.WithLabelValues(result)
	}
	if reg != nil {
		reg.MustRegister(m.records, m.replayed, m.replays, m.passes, m.cachedBytes, bytes, m.fetches, m.errors, m.generations, m.rebalances, m.commits, m.misplaced, m.ownerless, m.stalled, m.up)
	}
	return m
}

func (m *metrics) recordContact(err error) {
	if err != nil {
		m.errors.WithLabelValues("contact").Inc()
		m.up.Set(0)
		return
	}
	m.up.Set(1)
}

var lagDescription = prometheus.NewDesc("herald_kafka_lag_records",
	"Offsets between what is read and the end of a partition; users' topics are summed under their route, without a partition.",
	[]string{"topic", "partition"}, nil)

// lagCollector tells the lag of what a reader reads when it is asked.
type lagCollector struct{ *liveReader }

// Describe implements [prometheus.Collector].
func (lagCollector) Describe(ch chan<- *prometheus.Desc) { ch <- lagDescription }

// Collect implements [prometheus.Collector].
func (l lagCollector) Collect(ch chan<- prometheus.Metric) {
	users := make(map[string]int64) // by route
	for _, f := range l.livePartitions() {
		lag := f.lag()
		if f.route.Kind == PerUser {
			users[f.route.Topic] += lag
			continue
		}
		ch <- prometheus.MustNewConstMetric(lagDescription, prometheus.GaugeValue, float64(lag), f.Topic, strconv.Itoa(int(f.ID)))
	}
	for topic, lag := range users {
		ch <- prometheus.MustNewConstMetric(lagDescription, prometheus.GaugeValue, float64(lag), topic, "")
	}
}

var partitionsDescription = prometheus.NewDesc("herald_kafka_partitions",
	"Partitions read live, by the broker that they are read from.", []string{"broker"}, nil)

// partitionsCollector tells where a reader reads when it is asked.
type partitionsCollector struct{ *liveReader }

// Describe implements [prometheus.Collector].
func (partitionsCollector) Describe(ch chan<- *prometheus.Desc) { ch <- partitionsDescription }

// Collect implements [prometheus.Collector].
func (p partitionsCollector) Collect(ch chan<- prometheus.Metric) {
	for broker, count := range p.countByBroker() {
		ch <- prometheus.MustNewConstMetric(partitionsDescription, prometheus.GaugeValue, float64(count), strconv.Itoa(int(broker)))
	}
}
