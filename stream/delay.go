package stream

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// delayBounds are the upper bounds of the buckets of delays. They are a series of 1, 2 and 5, so that the objectives that
// operators choose (100 ms, 1 s, 5 s) are bounds: the share of records below a bound is exact, and between two
// bounds Prometheus interpolates. Timestamps of records are in milliseconds, so smaller bounds would say nothing.
var delayBounds = [...]time.Duration{
	time.Millisecond, 2 * time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond, 20 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second, 5 * time.Second,
	10 * time.Second, 30 * time.Second, time.Minute, 5 * time.Minute,
}

// recordTimes says how old a live record was when the hub got it.
type recordTimes struct {
	fetched time.Duration // when the hub got the record, as delays.now returns it
	age     time.Duration // the time from the record's timestamp until then; 0 for a timestamp in the future, and at most maxAge
}

// maxAge is the greatest age that a record counts with. Producers choose timestamps, and some write 0 or -1 in them, which
// is more than 50 years ago: without a bound, one such record would spoil the mean of a million others.
const maxAge = 24 * time.Hour

// delays counts how late live records reach their clients. It is a [prometheus.Collector] of three histograms. The
// histograms of Prometheus' library would do, but all processors would count each event in the same few words of
// memory, three times as often as other counters of a stream. So delays counts in shards.
type delays struct {
	began  time.Time
	shards [delayShards]delayShard

	record, delivery, queue *prometheus.Desc
}

// delayShards is the number of shards. The pool of buffers keeps a buffer with its processor most of the time, so the
// buffer's number selects a shard that few other processors use.
const delayShards = 16

type delayShard struct {
	record, delivery, queue delayCounts
	_                       [64]byte // no shard begins in a cache line of another one
}

// delayCounts are the counts of a histogram.
type delayCounts struct {
	counts [len(delayBounds) + 1]atomic.Uint64 // of each bucket alone; the last one is above all bounds
	sum    atomic.Uint64                       // in microseconds: in nanoseconds, a week of much traffic would overflow it
}

func newDelays() *delays {
	return &delays{
		began:    time.Now(),
		record:   prometheus.NewDesc("herald_stream_record_delay_seconds", "Time from a live record's timestamp until a client's socket took its event.", nil, nil),
		delivery: prometheus.NewDesc("herald_stream_delivery_delay_seconds", "Time from the fetch of a live record until a client's socket took its event.", nil, nil),
		queue:    prometheus.NewDesc("herald_stream_queue_delay_seconds", "Time from the fetch of a live record until Herald began to write its event to a client.", nil, nil),
	}
}

// now returns the time since the delays began. It does not jump when the clock is set.
func (d *delays) now() time.Duration { return time.Since(d.began) }

// timesOf returns the times of a record with this timestamp that the hub gets at now.
func (d *delays) timesOf(timestamp, now time.Time) recordTimes {
	return recordTimes{fetched: now.Sub(d.began), age: min(max(0, now.Sub(timestamp)), maxAge)}
}

// beginWrite counts the live records of a buffer that is written next. It reads the clock for all that need the time of
// the write.
func (d *delays) beginWrite(b *buffer) {
	b.written = d.now()
	if len(b.live) == 0 {
		return
	}
	s := &d.shards[b.shard%delayShards]
	for i := range b.live {
		s.queue.add(b.written - b.live[i].fetched)
	}
}

// endWrite counts the live records of a buffer of which the client's socket has taken all bytes. If it took them at
// once, the time at which the write began is exact enough, and saves the reading of a clock.
func (d *delays) endWrite(b *buffer) {
	if len(b.live) == 0 {
		return
	}
	now := b.written
	if b.waits {
		now = d.now()
	}
	s := &d.shards[b.shard%delayShards]
	for i := range b.live {
		since := now - b.live[i].fetched
		s.delivery.add(since)
		s.record.add(b.live[i].age + since)
	}
}

func (c *delayCounts) add(d time.Duration) {
	d = max(0, d)
	i := 0
	for i < len(delayBounds) && d > delayBounds[i] {
		i++
	}
	c.counts[i].Add(1)
	c.sum.Add(uint64((d + time.Microsecond/2) / time.Microsecond))
}

// Describe implements [prometheus.Collector].
func (d *delays) Describe(to chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{d.record, d.delivery, d.queue} {
		to <- desc
	}
}

// Collect implements [prometheus.Collector].
func (d *delays) Collect(to chan<- prometheus.Metric) {
	to <- d.collect(d.record, func(s *delayShard) *delayCounts { return &s.record })
	to <- d.collect(d.delivery, func(s *delayShard) *delayCounts { return &s.delivery })
	to <- d.collect(d.queue, func(s *delayShard) *delayCounts { return &s.queue })
}

// collect returns the sum of the counts that the function selects in each shard.
func (d *delays) collect(desc *prometheus.Desc, of func(*delayShard) *delayCounts) prometheus.Metric {
	sum := 0.0
	var counts [len(delayBounds) + 1]uint64
	for i := range d.shards {
		c := of(&d.shards[i])
		sum += float64(c.sum.Load())
		for j := range counts {
			counts[j] += c.counts[j].Load()
		}
	}
	buckets := make(map[float64]uint64, len(delayBounds))
	total := uint64(0)
	for j, bound := range delayBounds {
		total += counts[j]
		buckets[bound.Seconds()] = total
	}
	return prometheus.MustNewConstHistogram(desc, total+counts[len(delayBounds)], sum/1e6, buckets)
}
