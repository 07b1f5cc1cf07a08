package consumer

import (
	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the consumer's. Users' topics share one series: a label a user would make as many
// series as there are users.
type metrics struct {
	records  prometheus.Counter
	replayed prometheus.Counter
	replays  prometheus.Counter
	bytes    *prometheus.CounterVec
	errors   *prometheus.CounterVec
	rebal    prometheus.Counter
	commits  *prometheus.CounterVec
	lagging  *prometheus.GaugeVec
	up       prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		records:  prometheus.NewCounter(prometheus.CounterOpts{Name: "herald_kafka_records_total", Help: "Records read live from Kafka."}),
		replayed: prometheus.NewCounter(prometheus.CounterOpts{Name: "herald_kafka_replay_records_total", Help: "Records read again for replays."}),
		replays:  prometheus.NewCounter(prometheus.CounterOpts{Name: "herald_kafka_replays_total", Help: "Ranges of a partition read again for one stream."}),
		bytes:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "herald_kafka_read_bytes_total", Help: "Record batch bytes read from Kafka, live or for replays."}, []string{"for"}),
		errors:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "herald_kafka_errors_total", Help: "Errors while reading from Kafka: contact, fetch, partition, topic, corrupt."}, []string{"kind"}),
		rebal:    prometheus.NewCounter(prometheus.CounterOpts{Name: "herald_kafka_generations_total", Help: "Generations of the consumer group joined."}),
		commits:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "herald_kafka_commits_total", Help: "Offset commits by result: ok or error."}, []string{"result"}),
		lagging:  prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "herald_kafka_lag_records", Help: "Offsets between what is read and the end of a partition that is always read."}, []string{"topic", "partition"}),
		up:       prometheus.NewGauge(prometheus.GaugeOpts{Name: "herald_kafka_up", Help: "1 while Kafka answers metadata requests."}),
	}
	if reg != nil {
		reg.MustRegister(m.records, m.replayed, m.replays, m.bytes, m.errors, m.rebal, m.commits, m.lagging, m.up)
	}
	return m
}

func (m *metrics) contact(err error) {
	if err != nil {
		m.errors.WithLabelValues("contact").Inc()
		m.up.Set(0)
		return
	}
	m.up.Set(1)
}

// lag notes how far the feed is behind end. f.mu is held.
func (m *metrics) lag(f *feed, end int64) {
	if f.route.Kind != PerUser {
		m.lagging.WithLabelValues(f.Topic, itoa(f.ID)).Set(float64(max(0, end-f.next)))
	}
}
