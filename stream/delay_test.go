package stream

import (
	"bytes"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"herald/consumer"
	"herald/consumer/batch"
)

// waitingOutput takes nothing at once, and everything after a time.
type waitingOutput struct {
	partOutput
	wait time.Duration
}

func (o *waitingOutput) send(b []byte) ([]byte, error)      { return b[headroom:], nil }
func (o *waitingOutput) sendLarge(l *large) ([]byte, error) { return l.text, nil }

func (o *waitingOutput) finish([]byte) error {
	time.Sleep(o.wait)
	return nil
}

// histograms returns the count and the sum, in seconds, of each histogram in the registry, by its name.
func histograms(t *testing.T, registry prometheus.Gatherer) map[string]*dto.Histogram {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]*dto.Histogram)
	for _, f := range families {
		if f.GetType() == dto.MetricType_HISTOGRAM {
			found[f.GetName()] = f.GetMetric()[0].GetHistogram()
		}
	}
	return found
}

// TestDelays delivers live records two seconds after the hub got them. The records' timestamps lie before the delivery,
// or after it as a producer's clock may be wrong.
func TestDelays(t *testing.T) {
	for _, test := range []struct {
		name                    string
		age, wait               time.Duration
		value                   string
		broadcast               bool
		record, delivery, queue float64
	}{
		{"at once", 3 * time.Second, 0, "x", false, 5, 2, 2},
		{"broadcast", 3 * time.Second, 0, "x", true, 5, 2, 2},
		{"slow client", 3 * time.Second, 4 * time.Second, "x", false, 9, 6, 2},
		{"large event", 3 * time.Second, 4 * time.Second, strings.Repeat("x", largeValue), false, 13, 10, 2},
		{"timestamp in the future", -time.Hour, 0, "x", false, 2, 2, 2},
		{"timestamp far in the future", -math.MaxInt64, 0, "x", false, 2, 2, 2},
		{"no timestamp", 56 * 365 * 24 * time.Hour, 0, "x", false, maxAge.Seconds() + 2, 2, 2},
		{"oldest timestamp", math.MaxInt64, 0, "x", false, maxAge.Seconds() + 2, 2, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				registry := prometheus.NewRegistry()
				hub := NewHub("event-type", registry)
				p := consumer.Partition{Topic: "shared"}
				hub.Begin(p, [16]byte{1}, 0)
				var out output = new(partOutput)
				if test.wait > 0 {
					out = &waitingOutput{wait: test.wait}
				}
				s := newStream(t, streamOptions{hub: hub, kafka: new(foreignKafka), out: out, inline: true})
				s.start(streamRequest{})
				r := consumer.Record{Record: batch.Record{Value: []byte(test.value), Time: time.Now().Add(-test.age)}, User: []byte("alice"), Broadcast: test.broadcast}
				hub.Deliver(p, []consumer.Record{r}, 1)
				if queued := hub.metrics.queued.Load(); queued < int64(len(test.value)) {
					t.Errorf("%d bytes are queued, want at least %d", queued, len(test.value))
				}
				time.Sleep(2 * time.Second)
				s.serveQuick()
				if queued := hub.metrics.queued.Load(); queued != 0 {
					t.Errorf("%d bytes are queued after they are sent", queued)
				}
				got := histograms(t, registry)
				for name, want := range map[string]float64{"record": test.record, "delivery": test.delivery, "queue": test.queue} {
					h := got["herald_stream_"+name+"_delay_seconds"]
					if h.GetSampleCount() != 1 || h.GetSampleSum() != want {
						t.Errorf("%s: %d records in %g s, want 1 in %g s", name, h.GetSampleCount(), h.GetSampleSum(), want)
					}
					for _, b := range h.GetBucket() {
						if in := b.GetUpperBound() >= want; in != (b.GetCumulativeCount() == 1) {
							t.Errorf("%s of %g s: bucket %g has %d", name, want, b.GetUpperBound(), b.GetCumulativeCount())
						}
					}
				}
			})
		})
	}
}

// TestDelaySumDoesNotOverflow counts more delay than nanoseconds in 63 bits hold.
func TestDelaySumDoesNotOverflow(t *testing.T) {
	d := newDelays()
	for range 10 * delayShards {
		for i := range d.shards {
			d.shards[i].record.add(100 * 365 * 24 * time.Hour)
		}
	}
	var m dto.Metric
	if err := d.collect(d.record, func(s *delayShard) *delayCounts { return &s.record }).Write(&m); err != nil {
		t.Fatal(err)
	}
	if want := 10 * delayShards * delayShards * 100 * 365 * 24 * 3600.0; m.GetHistogram().GetSampleSum() != want {
		t.Errorf("the sum is %g s, want %g s", m.GetHistogram().GetSampleSum(), want)
	}
}

// TestReplayTally catches up in 3 s. Streams that missed nothing do not count.
func TestReplayTally(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		registry := prometheus.NewRegistry()
		hub, kafka := NewHub("event-type", registry), &foreignKafka{delay: 3 * time.Second}
		p := consumer.Partition{Topic: "shared"}
		hub.Begin(p, [16]byte{1}, 0)
		q := newQuiet(t, hub, kafka, streamRequest{})
		id := string(bytes.TrimPrefix(bytes.SplitN(q.text.text[bytes.Index(q.text.text, []byte("id: ")):], []byte("\n"), 2)[0], []byte("id: ")))
		if n := histograms(t, registry)["herald_stream_replay_duration_seconds"].GetSampleCount(); n != 0 {
			t.Errorf("%d catch-ups are counted of a stream that missed nothing", n)
		}
		hub.Deliver(p, nil, 100)
		newQuiet(t, hub, kafka, streamRequest{lastID: id})
		duration, records := histograms(t, registry)["herald_stream_replay_duration_seconds"], histograms(t, registry)["herald_stream_replay_records"]
		if duration.GetSampleCount() != 1 || duration.GetSampleSum() != 3 || records.GetSampleCount() != 1 || records.GetSampleSum() != 0 {
			t.Errorf("%v and %v, want one catch-up of 3 s and without a record", duration, records)
		}
	})
}

// BenchmarkDelays counts one event that a client takes at once, as most events are.
func BenchmarkDelays(b *testing.B) {
	d := newDelays()
	b.RunParallel(func(pb *testing.PB) {
		buf := newBuffer()
		buf.live = append(buf.live, d.timesOf(time.Now(), time.Now()))
		for pb.Next() {
			d.beginWrite(buf)
			d.endWrite(buf)
		}
	})
}
