package consumer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Layout of a record batch, magic 2 (KIP-98; Kafka documentation, "Record Batch").
const (
	batchHeaderSize  = 61
	batchLengthFrom  = 12 // batchLength counts from here on
	batchMagicAt     = 16 // in message sets of magic 0 and 1 too, whose offset is that of their last message
	batchCRCFrom     = 21 // the CRC covers everything from here on
	attrCodecMask    = 0x07
	attrLogAppend    = 0x08
	attrTransaction  = 0x10
	attrControl      = 0x20
	controlTypeAbort = 0
)

// maxHeaders bounds the headers of a record: empty ones take 2 bytes in a batch and 40 in memory.
const maxHeaders = 1 << 16

var (
	// ErrCorruptBatch says that a record batch fails its CRC or contradicts itself.
	ErrCorruptBatch = errors.New("corrupt record batch")

	// ErrOldMessageFormat says that a topic holds message sets of magic 0 or 1, which Kafka 4 no
	// longer writes. Rewrite the topic (for example with MirrorMaker) to read it.
	ErrOldMessageFormat = errors.New("message format 0 or 1 is not supported")
)

// UnreadableError says that records of a partition cannot be read, because of [ErrCorruptBatch] or
// [ErrOldMessageFormat], and where to go on.
type UnreadableError struct {
	Position       // the first record that cannot be read
	Next     int64 // the offset behind those that cannot
	err      error
}

func (e *UnreadableError) Error() string {
	return fmt.Sprintf("%s@%d: %v", e.Partition, e.Offset, e.err)
}

// Unwrap returns the reason.
func (e *UnreadableError) Unwrap() error { return e.err }

// readTries is how often records that cannot be read are asked for before they are given up: what a
// broken connection or a failing disk of one replica did may be right the next time.
const readTries = 3

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// batches iterates over the records of one partition in one fetch response, as a read_committed
// consumer sees them: control records and the records of aborted transactions are left out.
//
// The zero value with data and aborted set is ready; next must be the offset that was asked for,
// because a broker answers with whole batches that may begin before it.
type batches struct {
	data    []byte
	aborted []kmsg.FetchResponseTopicPartitionAbortedTransaction
	next    int64 // the offset after the last batch or record passed over

	active map[int64]struct{} // producers whose transaction, aborted later, is open here
	body   []byte             // records of the current batch, decompressed
	unread int32              // how many of them are left
	delta  int64              // offset delta of the last one read; -1 before the first
	base   batchHeader
	begun  bool // there was a whole batch

	headers []Header // of all records since the caller last cut it back
	keys    headerKeys
	scratch *bytes.Buffer
	limit   int64 // what a batch may decompress to, in bytes; zero: maxBatchSize
}

type batchHeader struct {
	offset     int64
	lastDelta  int32
	attributes int16
	timestamp  int64
	maxTime    int64
	producer   int64
	count      int32
}

func (h *batchHeader) last() int64 { return h.offset + int64(h.lastDelta) }

// read fills rec with the next record. It returns false at the end of the response, where a batch
// may be cut off behind whole ones, and with an error that wraps [ErrCorruptBatch] or
// [ErrOldMessageFormat]. After the end next is the offset to go on from; after an error it is the
// first that cannot be read, and [batches.behind] where to go on. Behind old message sets the same
// answer can be read on.
func (b *batches) read(rec *Record) (bool, error) {
	for {
		for b.unread > 0 {
			b.unread--
			if err := b.record(rec); err != nil {
				return false, err
			}
			if b.unread == 0 && len(b.body) > 0 {
				return false, fmt.Errorf("%w at offset %d: %d bytes behind the last record", ErrCorruptBatch, b.base.offset, len(b.body))
			}
			wanted := rec.Offset >= b.next // not before the offset that was asked for
			if wanted {
				b.next = rec.Offset + 1
			}
			if b.unread == 0 { // compaction may have left a hole behind the last record
				b.next = b.base.last() + 1
			}
			if wanted {
				return true, nil
			}
		}
		more, err := b.batch()
		if !more || err != nil {
			return false, err
		}
	}
}

// batch moves on to the next batch with records for us; false at the end.
func (b *batches) batch() (bool, error) {
	for len(b.data) > batchMagicAt {
		offset := int64(binary.BigEndian.Uint64(b.data))
		size := int64(int32(binary.BigEndian.Uint32(b.data[8:])))
		b.base = batchHeader{offset: offset}
		if magic := b.data[batchMagicAt]; magic < 2 {
			if b.passOld(); b.base.last() < b.next {
				continue
			}
			return false, fmt.Errorf("%w (magic %d at offset %d)", ErrOldMessageFormat, magic, offset)
		}
		if size < batchHeaderSize-batchLengthFrom {
			return false, fmt.Errorf("%w at offset %d: length %d", ErrCorruptBatch, offset, size)
		}
		end := batchLengthFrom + size
		if end > int64(len(b.data)) {
			break // cut off: a broker fills its answer to the byte
		}
		raw := b.data[:end]
		b.data = b.data[end:]
		b.begun = true
		if err := b.header(raw); err != nil {
			return false, err
		}
		b.unread = 0
		if b.skipped(raw[batchHeaderSize:]) || b.base.last() < b.next {
			b.next = max(b.next, b.base.last()+1)
			continue
		}
		if b.base.count == 0 && end == batchHeaderSize { // compaction keeps the header of an emptied batch
			b.next = max(b.next, b.base.last()+1)
			continue
		}
		if b.base.count == 0 {
			return false, fmt.Errorf("%w at offset %d: no records in %d bytes", ErrCorruptBatch, offset, end-batchHeaderSize)
		}
		if err := b.decompress(raw[batchHeaderSize:]); err != nil {
			return false, err
		}
		b.unread, b.delta = b.base.count, -1
		return true, nil
	}
	if !b.begun && len(b.data) > 0 {
		// Kafka answers with one whole batch at least, however large (KIP-74). To ask again, as for a
		// batch that was cut off, would get the same answer for ever.
		return false, fmt.Errorf("%w at offset %d: no whole batch in %d bytes", ErrCorruptBatch, b.next, len(b.data))
	}
	return false, nil
}

// passOld moves on behind all message sets of magic 0 and 1 that are next: there may be one for each
// message. The offset of one that is cut off is known, so it is passed over too.
func (b *batches) passOld() {
	b.begun = true
	for len(b.data) > batchMagicAt && b.data[batchMagicAt] < 2 {
		b.base.offset = max(b.base.offset, int64(binary.BigEndian.Uint64(b.data)))
		end := batchLengthFrom + int64(int32(binary.BigEndian.Uint32(b.data[8:])))
		if end <= batchMagicAt || end > int64(len(b.data)) {
			b.data = nil
			return
		}
		b.data = b.data[end:]
	}
}

func (b *batches) header(raw []byte) error {
	h := batchHeader{
		offset:     int64(binary.BigEndian.Uint64(raw)),
		attributes: int16(binary.BigEndian.Uint16(raw[21:])),
		lastDelta:  int32(binary.BigEndian.Uint32(raw[23:])),
		timestamp:  int64(binary.BigEndian.Uint64(raw[27:])),
		maxTime:    int64(binary.BigEndian.Uint64(raw[35:])),
		producer:   int64(binary.BigEndian.Uint64(raw[43:])),
		count:      int32(binary.BigEndian.Uint32(raw[57:])),
	}
	if h.lastDelta > 0 && h.last() < b.next+maxBatchSize { // believed for want of better if the batch is corrupt, see behind
		b.base.lastDelta = h.lastDelta
	}
	if got, want := crc32.Checksum(raw[batchCRCFrom:], castagnoli), binary.BigEndian.Uint32(raw[17:]); got != want {
		return fmt.Errorf("%w at offset %d: CRC %08x, expected %08x", ErrCorruptBatch, h.offset, got, want)
	}
	if raw[batchMagicAt] != 2 { // before the part that has the CRC
		return fmt.Errorf("%w at offset %d: magic %d", ErrCorruptBatch, h.offset, raw[batchMagicAt])
	}
	if h.offset < 0 || h.lastDelta < 0 || h.last() < h.offset || h.last() == math.MaxInt64 || h.count < 0 || int64(h.count) > int64(h.lastDelta)+1 {
		return fmt.Errorf("%w at offset %d: %d records over %d offsets", ErrCorruptBatch, h.offset, h.count, int64(h.lastDelta)+1)
	}
	b.base = h
	return nil
}

// skipped says whether the batch holds nothing for a read_committed reader, and keeps the set of
// aborted transactions that are open at this point of the log (KIP-98).
func (b *batches) skipped(body []byte) bool {
	for len(b.aborted) > 0 {
		first := 0
		for i := range b.aborted {
			if b.aborted[i].FirstOffset < b.aborted[first].FirstOffset {
				first = i
			}
		}
		if b.aborted[first].FirstOffset > b.base.last() {
			break
		}
		if b.active == nil {
			b.active = make(map[int64]struct{})
		}
		b.active[b.aborted[first].ProducerID] = struct{}{}
		b.aborted[first] = b.aborted[len(b.aborted)-1]
		b.aborted = b.aborted[:len(b.aborted)-1]
	}
	if b.base.attributes&attrControl != 0 {
		if controlType(body) == controlTypeAbort {
			delete(b.active, b.base.producer)
		}
		return true
	}
	if b.base.attributes&attrTransaction == 0 {
		return false
	}
	_, aborted := b.active[b.base.producer]
	return aborted
}

// controlType returns the type of a control batch's record, -1 if it cannot be read. Control
// batches hold one record, whose key is a version and a type (int16 each), and are not compressed.
func controlType(body []byte) int16 {
	p := fields{data: body}
	p.varint() // length
	p.bytes(1) // attributes
	p.varint() // timestamp delta
	p.varint() // offset delta
	key := p.bytes(p.varint())
	if p.bad || len(key) < 4 {
		return -1
	}
	return int16(binary.BigEndian.Uint16(key[2:]))
}

// record decodes one record of the current batch.
func (b *batches) record(rec *Record) error {
	p := fields{data: b.body}
	body := p.bytes(p.varint())
	b.body = p.data
	corrupt := p.bad

	p = fields{data: body}
	p.bytes(1) // attributes, unused
	timeDelta := p.varint()
	offsetDelta := p.varint()
	key := p.nullable()
	value := p.nullable()
	first := len(b.headers)
	count := p.varint()
	corrupt = corrupt || count < 0 || count > maxHeaders
	for ; count > 0 && !p.bad; count-- {
		b.headers = append(b.headers, Header{Key: b.keys.intern(p.bytes(p.varint())), Value: p.nullable()})
	}
	if corrupt || p.bad || len(p.data) > 0 || offsetDelta <= b.delta || offsetDelta > int64(b.base.lastDelta) {
		b.unread = 0
		return fmt.Errorf("%w at offset %d: a record cannot be read", ErrCorruptBatch, b.base.offset)
	}
	b.delta = offsetDelta
	ms := b.base.timestamp + timeDelta
	if b.base.attributes&attrLogAppend != 0 {
		ms = b.base.maxTime
	}
	*rec = Record{
		Offset:  b.base.offset + offsetDelta,
		Time:    time.UnixMilli(ms),
		Key:     key,
		Value:   value,
		Headers: b.headers[first:len(b.headers):len(b.headers)],
	}
	return nil
}

// fields decodes the fields of a record; once something is missing, bad stays set and everything
// reads as zero.
type fields struct {
	data []byte
	bad  bool
}

func (f *fields) varint() int64 {
	v, n := binary.Varint(f.data)
	if n <= 0 {
		f.bad, f.data = true, nil
		return 0
	}
	f.data = f.data[n:]
	return v
}

func (f *fields) bytes(n int64) []byte {
	if f.bad || n < 0 || n > int64(len(f.data)) {
		f.bad, f.data = true, nil
		return nil
	}
	v := f.data[:n:n]
	f.data = f.data[n:]
	return v
}

// nullable reads a length and that many bytes; a length of -1 is null.
func (f *fields) nullable() []byte {
	n := f.varint()
	if n == -1 {
		return nil
	}
	return f.bytes(n)
}

// headerKeys keeps the keys of record headers that were met, so that each is made a string once.
type headerKeys map[string]string

// intern returns key as a string. A nil map keeps nothing.
func (k headerKeys) intern(key []byte) string {
	const most = 64 // a topic has a handful of keys; one that has more is no reason to keep them
	if s, ok := k[string(key)]; ok {
		return s
	}
	s := string(key)
	if k != nil && len(k) < most {
		k[s] = s
	}
	return s
}

// behind returns, after an error, the offset to go on from so that the batch with the error is
// left out. The header may be a part of what is corrupt: the offset of the batch behind it is
// believed first, then the header if what it says can be; else one offset is given up. To believe
// anything would give up good records, or go back.
func (b *batches) behind() int64 {
	credible := func(next int64) bool { return next > b.next && next-b.next <= maxBatchSize }
	if len(b.data) >= 8 {
		if next := int64(binary.BigEndian.Uint64(b.data)); credible(next) && next > b.base.offset {
			return next
		}
	}
	if next := b.base.last() + 1; credible(next) {
		return next
	}
	return b.next + 1
}

// behindBatches returns the offset behind the whole batches in data by their headers alone; at least
// from.
func behindBatches(data []byte, from int64) int64 {
	next := from
	for len(data) > batchMagicAt {
		last := int64(binary.BigEndian.Uint64(data))
		size := batchLengthFrom + int64(int32(binary.BigEndian.Uint32(data[8:])))
		if size <= batchMagicAt || size > int64(len(data)) {
			break
		}
		if data[batchMagicAt] >= 2 {
			if size < batchHeaderSize {
				break
			}
			last += int64(int32(binary.BigEndian.Uint32(data[23:])))
		}
		next = max(next, last+1)
		data = data[size:]
	}
	return next
}
