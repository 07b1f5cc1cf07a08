package format

import (
	"errors"
	"math"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"herald/consumer/batch"
)

// registryFormat decodes values by the schemas of a registry.
type registryFormat struct {
	registry *Registry
	last     atomic.Pointer[entry] // of the last record: most records of a topic have the same schema
	unknown  *rate.Limiter         // answers ErrNotFound
	doubts   *rate.Limiter         // such answers that are doubted
}

// A topic full of random ids costs a request for each id, and each request stops its partition for a moment. So above
// these rates, ids that are not known are taken for ids that do not exist. The rates are of one route, so that garbage in
// a topic of one route does not change other routes.
const (
	unknownBurst, unknownPerSecond = 100, 1
	doubtBurst, doubtEvery         = 5, 10 * time.Second
)

func newRegistryFormat(r *Registry) *registryFormat {
	return &registryFormat{
		registry: r,
		unknown:  rate.NewLimiter(unknownPerSecond, unknownBurst),
		doubts:   rate.NewLimiter(rate.Every(doubtEvery), doubtBurst),
	}
}

func (f *registryFormat) mayAskAgain() bool { return f.doubts.Allow() }

func (f *registryFormat) noteUnknown() { f.unknown.Allow() }

// hasTooManyUnknown reports whether the route asks for no more ids, because it has had too many unknown ones.
func (f *registryFormat) hasTooManyUnknown() bool { return f.unknown.Tokens() < 1 }

var (
	errTooManyUnknown = errors.New("the registry was not asked for this schema, because the topic has many schema ids that the registry does not have")
	errIDRange        = errors.New("no registry has such an id: it is larger than 2147483647")
)

func (f *registryFormat) Ready(r *batch.Record, wake func()) bool {
	if r.Value == nil {
		return true
	}
	frame, err := parseFrame(r)
	if err != nil || frame.schema.id > math.MaxInt32 {
		return true
	}
	e := f.findEntry(frame.schema)
	if e != nil && e.answer.Load().isDefinite() || f.hasTooManyUnknown() {
		return true
	}
	if wake == nil && f.registry.isBusy() {
		return false
	}
	if e == nil {
		e = f.registry.findOrAdd(frame.schema)
	}
	return f.registry.ask(e, f, wake)
}

// findEntry returns the entry of a schema, or nil.
func (f *registryFormat) findEntry(key schemaKey) *entry {
	e := f.last.Load()
	if e == nil || e.key != key {
		if e = f.registry.find(key); e == nil {
			return nil
		}
		f.last.Store(e)
	}
	f.registry.touch(e)
	return e
}

func (f *registryFormat) Decode(r *batch.Record) (Decoded, error) {
	frame, err := parseFrame(r)
	if err != nil {
		return Decoded{}, err
	}
	if frame.schema.id > math.MaxInt32 {
		return Decoded{}, &Error{Reason: ReasonUnknownSchema, Schema: frame.schema.String(), Err: errIDRange}
	}
	var a *answer
	if e := f.findEntry(frame.schema); e != nil {
		a = e.answer.Load()
	}
	switch {
	case a == nil && f.hasTooManyUnknown():
		return Decoded{}, &Error{Reason: ReasonUnknownSchema, Schema: frame.schema.String(), Err: errTooManyUnknown}
	case a == nil:
		return Decoded{}, ErrNotReady
	case a.err != nil:
		return Decoded{}, a.err
	}
	text, err := decodeSafely(a.schema, &frame)
	if err != nil {
		return Decoded{}, explain(&frame, err)
	}
	return Decoded{Value: text}, nil
}

// decodeSafely decodes a value, and turns a panic into an error: a valid schema may surprise a library, such as a schema
// that defines a google.protobuf.Timestamp with other fields.
func decodeSafely(s schema, f *frame) (text []byte, err error) {
	defer func() {
		if recover() != nil {
			err = errPanic
		}
	}()
	if len(f.payload) > smallPayload {
		decoding <- struct{}{}
		defer func() { <-decoding }()
	}
	return s.decode(f)
}

// smallPayload is the most bytes of a payload that takes little memory to decode.
const smallPayload = 1 << 10

// decoding has an element for each larger value that is being decoded. Thousands of streams may decode one value at the same
// time, when they replay it, and each takes up to 100 MB meanwhile. More goroutines than processors are not faster.
var decoding = make(chan struct{}, runtime.GOMAXPROCS(0))

var errPanic = errors.New("the decoder panicked")

// explain returns the error for a value that its schema's decoder refused.
func explain(f *frame, err error) error {
	if e, ok := errors.AsType[*Error](err); ok {
		e.Schema = f.schema.String()
		return e
	}
	if errors.Is(err, errTooLarge) || errors.Is(err, errTooDeep) {
		return &Error{Reason: ReasonTooLarge, Schema: f.schema.String(), Err: err}
	}
	return &Error{Reason: ReasonMismatch, Schema: f.schema.String(), Err: err}
}
