package consumer

import (
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"herald/consumer/format"
)

// Format decodes values, see [Record.SetFormat].
type Format = format.Format

// Decoded is what a [Format] returns.
type Decoded = format.Decoded

// decoder decodes the values of a route's records. It is safe for concurrent use.
type decoder struct {
	format.Format
	setsType bool                          // the format may name the type of a record's event
	counts   map[string]prometheus.Counter // the undecodable records by reason
	log      *slog.Logger
	total    atomic.Int64
	logged   atomic.Int64 // see mayLog; of undecodable records
	waited   atomic.Int64 // see mayLog; of partitions that wait for a schema
}

// newDecoders returns the decoder of each route that has a format, by the topic of the route.
func newDecoders(rs routes, schemas *format.Registry, m *metrics, log *slog.Logger) (map[string]*decoder, error) {
	decoders := make(map[string]*decoder)
	for i := range rs {
		route := &rs[i]
		if route.Format == "" {
			continue
		}
		f, err := format.New(route.Format, schemas)
		if err != nil {
			return nil, err
		}
		decoders[route.Topic] = newDecoder(route, f, m, log)
	}
	return decoders, nil
}

func newDecoder(route *Route, f format.Format, m *metrics, log *slog.Logger) *decoder {
	d := &decoder{Format: f, setsType: route.Format == format.KindCloudEvents, counts: make(map[string]prometheus.Counter), log: log}
	for _, reason := range format.Reasons {
		d.counts[reason] = m.undecodable.WithLabelValues(route.Topic, reason) // 0 from the start, because alerts need a first value
	}
	return d
}

// of returns the decoding of a partition's records; nil if the route has no format.
func (d *decoder) of(p Partition) *decoding {
	if d == nil {
		return nil
	}
	return &decoding{decoder: d, partition: p}
}

// decoding says how a record is decoded, and then what of the record was decoded. The records of a partition that are
// not decoded share one.
type decoding struct {
	*decoder
	partition Partition

	done       bool
	eventType  string
	attributes []Header
	err        error
}

// ErrNotReady says that a record cannot be decoded yet, because the schema registry has not answered. A replay can bring the
// record later.
var ErrNotReady = format.ErrNotReady

// isReady reports whether Decode has the schema that it needs. If not, the registry is asked, and wake is called once
// there is an answer. wake may be nil.
func (r *Record) isReady(wake func()) bool {
	return r.decoding == nil || r.Value == nil || r.decoding.done || r.decoding.Ready(&r.Record, wake)
}

// Decode decodes the record's value by the format of its route: Value is then what clients get. It decodes at the first
// call, so that records that nobody wants cost nothing. The error is [ErrNotReady] for now, and any other error for ever.
// The record then stays as it is. Decode does nothing without a format, and to a tombstone.
func (r *Record) Decode() error {
	d := r.decoding
	if d == nil || r.Value == nil {
		return nil
	}
	if d.done {
		return d.err
	}
	decoded, err := d.Decode(&r.Record)
	if errors.Is(err, format.ErrNotReady) {
		return ErrNotReady
	}
	r.decoding = &decoding{decoder: d.decoder, partition: d.partition, done: true, eventType: decoded.Type, attributes: decoded.Headers, err: err}
	if err != nil {
		d.recordUndecodable(Position{d.partition, r.Offset}, err)
		return err
	}
	r.Value = decoded.Value
	return nil
}

// decodedSize returns the size of the record's decoded value, in bytes; 0 if the record is not decoded.
func (r *Record) decodedSize() int {
	if r.decoding == nil || !r.decoding.done {
		return 0
	}
	return len(r.Value)
}

// recordUndecodable counts a record that cannot be decoded, and logs one of them in each [undecodablePeriod].
func (d *decoder) recordUndecodable(at Position, err error) {
	reason := ""
	if e, ok := errors.AsType[*format.Error](err); ok {
		reason = e.Reason
	}
	if count := d.counts[reason]; count != nil {
		count.Inc()
	}
	total := d.total.Add(1)
	if !mayLog(&d.logged, undecodablePeriod) {
		return
	}
	d.log.Warn("record cannot be decoded and is left out", "topic", at.Topic, "partition", at.ID, "offset", at.Offset, "reason", reason, "error", err, "records", total)
}

// undecodablePeriod is how long the log is silent about a topic's undecodable records after a line.
const undecodablePeriod = time.Minute

// EventType returns the type of the record's event, if its format names one. It returns false if the format may name
// one, but the record is not decoded, or cannot be.
func (r *Record) EventType() (name string, known bool) {
	switch d := r.decoding; {
	case d == nil || !d.setsType || r.Value == nil:
		return "", true
	default:
		return d.eventType, d.done && d.err == nil
	}
}

// SetFormat makes Decode decode the record of the partition by f. namesType says that f may name the types of events. It is
// for sources of records other than a [Consumer], such as a model.
func (r *Record) SetFormat(p Partition, f Format, namesType bool) {
	r.decoding = (&decoder{Format: f, setsType: namesType, log: slog.New(slog.DiscardHandler)}).of(p)
}

// HasFormat reports whether Decode may have to decode the record.
func (r *Record) HasFormat() bool { return r.decoding != nil }

// Attributes returns what the format found besides the value, such as the attributes of a CloudEvent, once the record
// is decoded.
func (r *Record) Attributes() []Header {
	if r.decoding == nil {
		return nil
	}
	return r.decoding.attributes
}
