package batch

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
)

// Layout of a record batch of magic 2 (KIP-98; Kafka documentation, "Record Batch"): where the fields
// are, in bytes from the start of the batch. Offset, length and magic of message sets of magic 0 and 1
// are in the same places; their offset is the offset of their last message.
const (
	lengthAt        = 8
	lengthFrom      = 12 // the length counts the bytes from here on
	magicAt         = 16
	crcAt           = 17
	crcFrom         = 21 // the CRC covers the bytes from here on
	attributesAt    = 21
	lastDeltaAt     = 23
	baseTimestampAt = 27
	maxTimestampAt  = 35
	producerAt      = 43
	countAt         = 57
	headerSize      = 61
)

// Bits of the attributes of a batch.
const (
	attrCodecMask   = 0x07
	attrLogAppend   = 0x08 // the time of all records is the batch's largest timestamp
	attrTransaction = 0x10
	attrControl     = 0x20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// header is what the reader needs of a batch's header.
type header struct {
	offset       int64
	lastDelta    int32
	attributes   int16
	timestamp    int64 // in milliseconds of Unix time, as maxTimestamp
	maxTimestamp int64
	producer     int64
	count        int32
}

// last returns the batch's last offset.
func (h *header) last() int64 { return h.offset + int64(h.lastDelta) }

// parseHeader checks a whole batch against its CRC and makes its header the current one. After an error
// the current header has the batch's first offset and, if that is credible, its last one, for
// NextReadable.
func (r *Reader) parseHeader(raw []byte) error {
	h := header{
		offset:       int64(binary.BigEndian.Uint64(raw)),
		attributes:   int16(binary.BigEndian.Uint16(raw[attributesAt:])),
		lastDelta:    int32(binary.BigEndian.Uint32(raw[lastDeltaAt:])),
		timestamp:    int64(binary.BigEndian.Uint64(raw[baseTimestampAt:])),
		maxTimestamp: int64(binary.BigEndian.Uint64(raw[maxTimestampAt:])),
		producer:     int64(binary.BigEndian.Uint64(raw[producerAt:])),
		count:        int32(binary.BigEndian.Uint32(raw[countAt:])),
	}
	if h.lastDelta > 0 && h.last() < r.next+MaxSize {
		r.base.lastDelta = h.lastDelta
	}
	if got, want := crc32.Checksum(raw[crcFrom:], castagnoli), binary.BigEndian.Uint32(raw[crcAt:]); got != want {
		return fmt.Errorf("%w at offset %d: CRC %08x, expected %08x", ErrCorrupt, h.offset, got, want)
	}
	if raw[magicAt] != 2 { // the CRC does not cover it
		return fmt.Errorf("%w at offset %d: magic %d", ErrCorrupt, h.offset, raw[magicAt])
	}
	if h.offset < r.end {
		return fmt.Errorf("%w at offset %d: the batches before it end at %d", ErrCorrupt, h.offset, r.end)
	}
	if h.lastDelta < 0 || h.last() < h.offset || h.last() == math.MaxInt64 || h.count < 0 || int64(h.count) > int64(h.lastDelta)+1 {
		return fmt.Errorf("%w at offset %d: %d records over %d offsets", ErrCorrupt, h.offset, h.count, int64(h.lastDelta)+1)
	}
	r.base, r.end = h, h.last()+1
	return nil
}

// EndOffset returns the offset after the whole batches in data, by their headers alone, and at least
// from. A caller uses it to fetch the next batches before it reads these.
func EndOffset(data []byte, from int64) int64 {
	next := from
	for len(data) > magicAt {
		last := int64(binary.BigEndian.Uint64(data))
		size := lengthFrom + int64(int32(binary.BigEndian.Uint32(data[lengthAt:])))
		if size <= magicAt || size > int64(len(data)) {
			break
		}
		if data[magicAt] >= 2 {
			if size < headerSize {
				break
			}
			last += int64(int32(binary.BigEndian.Uint32(data[lastDeltaAt:])))
		}
		next = max(next, last+1)
		data = data[size:]
	}
	return next
}

// BaseOffset returns the offset of the batch that data begins with; the given offset if data begins with no batch
// of magic 2. No checksum covers it.
func BaseOffset(data []byte, offset int64) int64 {
	if len(data) < headerSize || data[magicAt] != 2 {
		return offset
	}
	return int64(binary.BigEndian.Uint64(data))
}

// FirstOffset returns the first offset of the batch that data begins with if the batch holds the offset,
// and the offset itself otherwise. A broker answers fetches of two offsets of one batch with the same
// bytes.
func FirstOffset(data []byte, offset int64) int64 {
	if len(data) < headerSize || data[magicAt] != 2 { // an older message set may have the offset of its last message
		return offset
	}
	h := header{offset: int64(binary.BigEndian.Uint64(data)), lastDelta: int32(binary.BigEndian.Uint32(data[lastDeltaAt:]))}
	if h.offset < offset && offset <= h.last() {
		return h.offset
	}
	return offset
}
