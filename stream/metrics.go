package stream

import (
	"github.com/prometheus/client_golang/prometheus"

	"herald/consumer"
)

// metrics holds the metrics of all streams.
type metrics struct {
	open       prometheus.Gauge
	opened     *prometheus.CounterVec
	ended      *prometheus.CounterVec
	refused    *prometheus.CounterVec
	live       prometheus.Counter
	replayed   prometheus.Counter
	bytes      prometheus.Counter
	gaps       *prometheus.CounterVec
	overflows  prometheus.Counter
	tombstones prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	// All label values exist from the start, at 0. Otherwise a rate would miss the first event of a label value.
	counter := func(name, help, label string, values ...string) *prometheus.CounterVec {
		vec := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
		for _, value := range values {
			vec.WithLabelValues(value)
		}
		return vec
	}
	events := counter("herald_stream_events_total", "Records written to streams, by source: live or replay.", "source")
	m := &metrics{
		live:       events.WithLabelValues("live"),
		replayed:   events.WithLabelValues("replay"),
		open:       prometheus.NewGauge(prometheus.GaugeOpts{Name: "herald_streams", Help: "Streams and polls that are open."}),
		opened:     counter("herald_streams_opened_total", "Streams and polls opened, by where they start: now, since or id.", "start", startNow, startSince, startID),
		ended:      counter("herald_streams_ended_total", "Streams ended, by reason: client, polled, write-timeout, draining, token-expired, revoked, too-many-streams or error.", "reason", endClient, endPolled, endWriteTimeout, string(ErrDraining), string(ErrExpired), string(ErrRevoked), string(ErrTooMany), endError),
		refused:    counter("herald_streams_refused_total", "Streams refused, by reason: draining, busy or keys-unavailable.", "reason", string(ErrDraining), string(ErrBusy), string(ErrUnchecked)),
		bytes:      prometheus.NewCounter(prometheus.CounterOpts{Name: "herald_stream_written_bytes_total", Help: "Bytes written to streams."}),
		gaps:       counter("herald_stream_gaps_total", "Gap events written to streams, by reason: retention, recreated, unknown-id, unreadable or replay-limit.", "reason", string(consumer.GapRetention), string(consumer.GapRecreated), string(consumer.GapUnknownID), string(consumer.GapUnreadable), string(consumer.GapReplayLimit)),
		overflows:  prometheus.NewCounter(prometheus.CounterOpts{Name: "herald_stream_overflows_total", Help: "Times that a slow stream's queue was full and the stream fell back to replay."}),
		tombstones: prometheus.NewCounter(prometheus.CounterOpts{Name: "herald_stream_tombstones_total", Help: "Live records with a null value, which only clients that ask for fields get."}),
	}
	if reg != nil {
		reg.MustRegister(m.open, m.opened, m.ended, m.refused, events, m.bytes, m.gaps, m.overflows, m.tombstones)
	}
	return m
}
