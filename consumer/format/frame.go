package format

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"slices"
	"strconv"

	"herald/consumer/batch"
)

// schemaKey names a schema of a registry: by its id, or by its GUID if the registry and the producer use these.
type schemaKey struct {
	id     uint32
	guid   [16]byte
	byGUID bool
}

func (k *schemaKey) String() string {
	if !k.byGUID {
		return strconv.FormatUint(uint64(k.id), 10)
	}
	var text [36]byte
	at := 0
	for i, b := range k.guid {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			text[at] = '-'
			at++
		}
		hex.Encode(text[at:], []byte{b})
		at += 2
	}
	return string(text[:])
}

// Magic bytes of Confluent's wire format.
const (
	magicID   = 0 // a schema id follows, in 4 bytes
	magicGUID = 1 // a schema GUID follows, in 16 bytes
)

// guidHeader is the record header in which newer serializers of Confluent write the schema GUID of the value. The value
// is then not framed.
const guidHeader = "__value_schema_id"

// frame is a value in Confluent's wire format.
// See https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop/index.html#wire-format.
type frame struct {
	schema  schemaKey
	prefix  []byte // bytes after the schema key that a header has; nil if the value has the key
	payload []byte // the value after the schema key. In Protobuf, it begins with message indexes unless prefix has them
}

var (
	errNotFramed = errors.New("the value does not begin with the byte 0 and a schema id, as Confluent's serializers write it")
	errBadHeader = errors.New("the header " + guidHeader + " has no schema id")
)

// parseFrame finds the schema of a record's value. It allocates nothing, unless it fails.
func parseFrame(r *batch.Record) (frame, error) {
	if header, ok := r.Header(guidHeader); ok {
		key, rest, ok := parseSchemaKey(header)
		if !ok {
			return frame{}, &Error{Reason: ReasonNotFramed, Err: errBadHeader}
		}
		return frame{schema: key, prefix: slices.Clip(rest), payload: r.Value}, nil
	}
	key, rest, ok := parseSchemaKey(r.Value)
	if !ok {
		return frame{}, &Error{Reason: ReasonNotFramed, Err: errNotFramed}
	}
	return frame{schema: key, payload: rest}, nil
}

// parseSchemaKey cuts the magic byte and the id or GUID from b.
func parseSchemaKey(b []byte) (key schemaKey, rest []byte, ok bool) {
	switch {
	case len(b) >= 5 && b[0] == magicID:
		return schemaKey{id: binary.BigEndian.Uint32(b[1:])}, b[5:], true
	case len(b) >= 17 && b[0] == magicGUID:
		return schemaKey{guid: [16]byte(b[1:17]), byGUID: true}, b[17:], true
	}
	return schemaKey{}, nil, false
}
