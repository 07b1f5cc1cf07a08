package format

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"herald/consumer/batch"
)

// The kinds of formats, as users write them in a route.
const (
	KindRegistry      = "registry"       // Avro, Protobuf or JSON text, by a schema that a registry has
	KindConfluentJSON = "confluent-json" // JSON text after a schema id, without a registry
	KindCloudEvents   = "cloudevents"    // CloudEvents in structured and in binary mode
)

// Kinds lists the kinds of formats.
var Kinds = []string{KindRegistry, KindConfluentJSON, KindCloudEvents}

// MaxValue is how many bytes a decoded value has at most. Kafka's default limit for a record is 1 MiB; a binary value
// grows when it becomes text.
const MaxValue = 16 << 20

// A binary value may have a text of minMaxText bytes, and of maxGrowth bytes for each of its own. More is hardly a value
// that somebody means: an optional field without a value takes a byte, and its text has the field's name. But 3,000,000
// nulls of an Avro array take 10 bytes, so a fetch of a few KiB would take minutes of CPU, and gigabytes.
const (
	minMaxText = 64 << 10
	maxGrowth  = 128
)

// maxText returns how many bytes the text of a binary value may have.
func maxText(size int) int { return min(MaxValue, minMaxText+maxGrowth*size) }

// Format decodes the values of a route's records. Its methods may be called concurrently.
type Format interface {
	// Ready reports whether Decode needs nothing more from the registry. If it does, Ready makes the registry ask, and
	// wake is called once, by another goroutine, when there is an answer: the schema, or a definite no. wake may be nil;
	// then Ready keeps nothing about the call. A record with a null value is always ready.
	Ready(r *batch.Record, wake func()) bool
	// Decode decodes the value of a record, which is not null. It never waits. The error is [ErrNotReady] or an [*Error].
	// Decode does not change the record, and its result may share the record's memory.
	Decode(r *batch.Record) (Decoded, error)
}

// Decoded is a decoded record.
type Decoded struct {
	Value   []byte         // never nil
	Type    string         // event type; empty: the format has none
	Headers []batch.Header // headers besides the record's own: the attributes of a CloudEvent
}

// ErrNotReady reports that a schema is not there yet. [Format].Ready asks for it.
var ErrNotReady = errors.New("the registry has not answered yet")

// The reasons for which values cannot be decoded.
const (
	ReasonNotFramed     = "not-framed"     // the value does not begin with a schema id
	ReasonUnknownSchema = "unknown-schema" // the registry has no schema with this id
	ReasonBadSchema     = "bad-schema"     // the schema is broken, too large or of an unknown type
	ReasonMismatch      = "mismatch"       // the value does not fit its schema
	ReasonTooLarge      = "too-large"      // the value is too large or nested too deep
	ReasonNotJSON       = "not-json"       // the value is not one JSON text
	ReasonNotCloudEvent = "not-cloudevent" // the value claims to be a CloudEvent, but is not
)

// Reasons lists the reasons, for metrics.
var Reasons = []string{
	ReasonNotFramed, ReasonUnknownSchema, ReasonBadSchema, ReasonMismatch, ReasonTooLarge, ReasonNotJSON, ReasonNotCloudEvent,
}

// Error reports that a value cannot be decoded, now or later. It never contains a part of the value.
type Error struct {
	Reason string // one of [Reasons]
	Schema string // id of the schema; empty: the value names none
	Err    error
}

func (e *Error) Error() string {
	if e.Schema == "" {
		return e.Err.Error()
	}
	return fmt.Sprintf("schema %s: %v", e.Schema, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// New returns a format of a kind. Only [KindRegistry] needs a registry.
func New(kind string, registry *Registry) (Format, error) {
	switch kind {
	case KindRegistry:
		if registry == nil {
			return nil, errors.New("format=registry needs a schema registry")
		}
		return newRegistryFormat(registry), nil
	case KindConfluentJSON:
		return confluentJSON{}, nil
	case KindCloudEvents:
		return cloudEvents{}, nil
	}
	return nil, CheckKind(kind)
}

// CheckKind returns an error unless there is such a kind of format.
func CheckKind(kind string) error {
	if slices.Contains(Kinds, kind) {
		return nil
	}
	return fmt.Errorf("unknown format %q: want one of %s", kind, strings.Join(Kinds, ", "))
}
