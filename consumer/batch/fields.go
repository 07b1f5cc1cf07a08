package batch

import (
	"encoding/binary"
	"math/bits"
	"slices"
)

// fields decodes the fields of a record one after another. When a field is missing or cut off, bad is
// set and stays set, and this field and all later ones are zero.
type fields struct {
	data []byte
	bad  bool
}

func (f *fields) readVarint() int64 {
	v, n := binary.Varint(f.data)
	if n <= 0 {
		f.bad, f.data = true, nil
		return 0
	}
	f.data = f.data[n:]
	return v
}

func (f *fields) readBytes(n int64) []byte {
	if f.bad || n < 0 || n > int64(len(f.data)) {
		f.bad, f.data = true, nil
		return nil
	}
	v := f.data[:n:n]
	f.data = f.data[n:]
	return v
}

// readNullable reads a length and that many bytes; the length -1 means null.
func (f *fields) readNullable() []byte {
	n := f.readVarint()
	if n == -1 {
		return nil
	}
	return f.readBytes(n)
}

// Fields returns what [AppendFields] appends. It is the memory of the batch if the record comes from one. Changes of the
// record after it was read do not change the result.
func Fields(r *Record) []byte {
	if r.encoded != nil {
		return r.encoded
	}
	return AppendFields(nil, r)
}

// AppendFields appends the key, the value and the headers of a record to b, as a record batch encodes them. A caller
// that keeps records in memory uses it with [FieldsDecoder].
func AppendFields(b []byte, r *Record) []byte {
	if r.encoded != nil {
		return append(b, r.encoded...)
	}
	b = appendNullable(b, r.Key)
	b = appendNullable(b, r.Value)
	b = binary.AppendVarint(b, int64(len(r.Headers)))
	for i := range r.Headers {
		b = binary.AppendVarint(b, int64(len(r.Headers[i].Key)))
		b = append(b, r.Headers[i].Key...)
		b = appendNullable(b, r.Headers[i].Value)
	}
	return b
}

// appendNullable appends a length and the bytes; the length -1 for nil.
func appendNullable(b, v []byte) []byte {
	if v == nil {
		return binary.AppendVarint(b, -1)
	}
	return append(binary.AppendVarint(b, int64(len(v))), v...)
}

// VarintSize returns how many bytes binary.AppendVarint appends.
func VarintSize(v int64) int {
	return (bits.Len64(uint64(v)<<1^uint64(v>>63)|1) + 6) / 7 //nolint:gosec // the bits, as in the zigzag encoding
}

// FieldsSize returns how many bytes [AppendFields] appends for the record.
func FieldsSize(r *Record) int {
	if r.encoded != nil {
		return len(r.encoded)
	}
	size := nullableSize(r.Key) + nullableSize(r.Value) + VarintSize(int64(len(r.Headers)))
	for i := range r.Headers {
		size += VarintSize(int64(len(r.Headers[i].Key))) + len(r.Headers[i].Key) + nullableSize(r.Headers[i].Value)
	}
	return size
}

func nullableSize(v []byte) int {
	if v == nil {
		return 1
	}
	return VarintSize(int64(len(v))) + len(v)
}

// FieldsDecoder decodes records that [AppendFields] has encoded. Records decoded one after another share the
// memory for headers. The zero value is ready to use.
type FieldsDecoder struct {
	headers []Header
	keys    headerKeys
}

// Decode fills r with the record whose fields b holds. It does not set the offset and the time. The key, the value
// and the values of the headers are parts of b. The headers are valid until the next call.
func (d *FieldsDecoder) Decode(b []byte, r *Record) {
	f := fields{data: b}
	*r = Record{Key: f.readNullable(), Value: f.readNullable()}
	d.headers = d.headers[:0]
	for count := f.readVarint(); count > 0; count-- {
		d.headers = append(d.headers, Header{Key: d.keys.intern(f.readBytes(f.readVarint())), Value: f.readNullable()})
	}
	if len(d.headers) > 0 {
		r.Headers = slices.Clip(d.headers)
	}
}

// Release releases the memory that the headers refer to.
func (d *FieldsDecoder) Release() {
	const keep = 256 // a record may have 65,536 headers
	if cap(d.headers) > keep {
		d.headers = nil
		return
	}
	clear(d.headers[:cap(d.headers)])
}
