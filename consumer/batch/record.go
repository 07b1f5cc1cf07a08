package batch

import (
	"fmt"
	"slices"
	"time"
)

// MaxHeaders is how many headers a record may have; a record with more is corrupt. An empty header takes
// 2 bytes in a batch and 40 bytes in memory.
const MaxHeaders = 1 << 16

// Header is one record header. Kafka allows several headers with the same key.
type Header struct {
	Key   string
	Value []byte
}

// Record is one Kafka record.
//
// A nil Key or Value is Kafka's null, which differs from an empty one: a record with a null value is a
// tombstone. Key, Value and the values of the headers are parts of the [Reader]'s memory. They are valid
// until the reader drops its records.
type Record struct {
	Offset  int64
	Time    time.Time
	Key     []byte
	Value   []byte
	Headers []Header

	encoded []byte // key, value and headers as the batch has them; nil: the record comes from no batch
}

// Header returns the value of the last header with the key, as Kafka's own clients do, and whether the
// record has such a header.
func (r *Record) Header(key string) ([]byte, bool) {
	for _, h := range slices.Backward(r.Headers) {
		if h.Key == key {
			return h.Value, true
		}
	}
	return nil, false
}

// decodeRecord decodes the next record of the current batch.
func (r *Reader) decodeRecord(rec *Record) error {
	f := fields{data: r.body}
	body := f.readBytes(f.readVarint())
	r.body = f.data
	corrupt := f.bad

	f = fields{data: body}
	f.readBytes(1) // attributes, unused
	timeDelta := f.readVarint()
	offsetDelta := f.readVarint()
	encoded := f.data
	key := f.readNullable()
	value := f.readNullable()
	first := len(r.headers)
	count := f.readVarint()
	corrupt = corrupt || count < 0 || count > MaxHeaders
	for ; count > 0 && !f.bad; count-- {
		r.headers = append(r.headers, Header{Key: r.keys.intern(f.readBytes(f.readVarint())), Value: f.readNullable()})
	}
	if corrupt || f.bad || len(f.data) > 0 || offsetDelta <= r.delta || offsetDelta > int64(r.base.lastDelta) {
		r.unread = 0
		return fmt.Errorf("%w at offset %d: a record cannot be read", ErrCorrupt, r.base.offset)
	}
	r.delta = offsetDelta
	ms := r.base.timestamp + timeDelta
	if r.base.attributes&attrLogAppend != 0 {
		ms = r.base.maxTimestamp
	}
	*rec = Record{
		Offset:  r.base.offset + offsetDelta,
		Time:    time.UnixMilli(ms),
		Key:     key,
		Value:   value,
		Headers: r.headers[first:len(r.headers):len(r.headers)],
		encoded: encoded,
	}
	return nil
}

// headerKeys keeps keys of record headers as strings, so that a key that many records have is allocated
// once.
type headerKeys map[string]string

// intern returns a header's key as a string.
func (k *headerKeys) intern(key []byte) string {
	const most = 64 // a topic has a handful of keys; more of them are not worth the memory
	if s, ok := (*k)[string(key)]; ok {
		return s
	}
	if *k == nil {
		*k = make(headerKeys)
	}
	s := string(key)
	if len(*k) < most {
		(*k)[s] = s
	}
	return s
}
