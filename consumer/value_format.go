package consumer

import (
	"fmt"
	"strings"

	"herald/consumer/format"
	"herald/consumer/spelling"
)

// checkFormat returns an error unless the name is a kind of format, see [format.Kinds].
func checkFormat(name string) error {
	if format.CheckKind(name) == nil {
		return nil
	}
	advice := spelling.Suggest(name, format.Kinds)
	switch strings.ToLower(name) {
	case "avro", "protobuf", "json-schema", "jsonschema", "schema-registry", "confluent":
		advice = ", did you mean \"registry\"? The schema in the registry says whether a value is Avro, Protobuf or JSON"
	case "json":
		advice = "; JSON needs no format, unless a schema id precedes it (confluent-json)"
	}
	return fmt.Errorf("format %q: want %s%s", name, spelling.AnyOf(format.Kinds), advice)
}

// FramesValues reports whether a schema id precedes the values of the route. Herald writes no such values.
func (r *Route) FramesValues() bool {
	return r.Format == format.KindRegistry || r.Format == format.KindConfluentJSON
}

// isReady is [Record.isReady]. If the value names the user, isReady also decodes it: the registry may have forgotten the
// schema since it said that the record is ready, and must then be asked again.
func (r *Route) isReady(rec *Record, wake func()) bool {
	for rec.isReady(wake) {
		if r.UserPointer == "" || rec.Decode() != ErrNotReady { //nolint:errorlint // Decode returns it unwrapped
			return true
		}
	}
	return false
}
