package stream

import (
	"sync/atomic"

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
	delays     *delays

	replayDuration prometheus.Histogram
	replayRecords  prometheus.Histogram

	// The hub adds to queued after it has queued records, and the streams take away what they take. So queued is
	// below 0 for a moment if a stream is faster than the hub.
	queued atomic.Int64
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
		ended:      counter("herald_streams_ended_total", "Streams ended, by reason: client, polled, write-timeout, draining, token-expired, revoked, too-many-streams, reconnect or error.", "reason", endClient, endPolled, endWriteTimeout, string(ErrDraining), string(ErrExpired), string(ErrRevoked), string(ErrTooMany), string(ErrReconnect), endError),
		refused:    counter("herald_streams_refused_total", "Streams refused, by reason: draining, busy or keys-unavailable.", "reason", string(ErrDraining), string(ErrBusy), string(ErrUnchecked)),
		bytes:      prometheus.NewCounter(prometheus.CounterOpts{Name: "herald_stream_written_bytes_total", Help: "Bytes written to streams."}),
		gaps:       counter("herald_stream_gaps_total", "Gap events written to streams, by reason: retention, recreated, unknown-id, unreadable, undecodable or replay-limit.", "reason", string(consumer.GapRetention), string(consumer.GapRecreated), string(consumer.GapUnknownID), string(consumer.GapUnreadable), string(consumer.GapUndecodable), string(consumer.GapReplayLimit)),
		overflows:  prometheus.NewCounter(prometheus.CounterOpts{Name: "herald_stream_overflows_total", Help: "Times that a slow stream's queue was full and the stream fell back to replay."}),
		tombstones: prometheus.NewCounter(prometheus.CounterOpts{Name: "herald_stream_tombstones_total", Help: "Live records with a null value, which only clients that ask for fields get."}),
		delays:     newDelays(),
		replayDuration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "herald_stream_replay_duration_seconds", Help: "Time that streams with missed offsets took to catch up with the live records.",
			Buckets: []float64{.005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 30, 60, 300},
		}),
		replayRecords: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "herald_stream_replay_records", Help: "Records that streams with missed offsets were sent until they had caught up with the live records.",
			Buckets: []float64{0, 1, 10, 100, 1000, 10_000, 100_000, 1_000_000},
		}),
	}
	if reg != nil {
		queued := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "herald_stream_queued_bytes", Help: "Bytes that wait in the queues of all streams, counted as --max-queue-bytes counts them.",
		}, func() float64 { return float64(max(0, m.queued.Load())) })
		reg.MustRegister(m.open, m.opened, m.ended, m.refused, events, m.bytes, m.gaps, m.overflows, m.tombstones, m.delays, m.replayDuration, m.replayRecords, queued)
	}
	return m
}
