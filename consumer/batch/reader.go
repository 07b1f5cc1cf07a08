package batch

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"
)

var (
	// ErrCorrupt says that a record batch fails its CRC, contradicts itself, or decompresses to more
	// than [MaxSize] bytes.
	ErrCorrupt = errors.New("corrupt record batch")

	// ErrOldMessageFormat says that the log holds message sets of magic 0 or 1, which Kafka 4 no
	// longer writes. Rewrite the topic (for example with MirrorMaker) to read it.
	ErrOldMessageFormat = errors.New("message format 0 or 1 is not supported")
)

// Reader iterates over the records of one partition in one answer to a fetch, as a read_committed
// consumer sees them: it leaves out control records and the records of aborted transactions.
//
// The zero value is an empty answer. [Reader.Reset] gives the reader an answer, as often as needed, so
// that answers read one after another share the memory for headers. A Reader is not safe for concurrent
// use.
type Reader struct {
	data    []byte                                               // the batches that are not begun yet
	aborted []kmsg.FetchResponseTopicPartitionAbortedTransaction // not begun yet, by first offset
	next    int64                                                // the offset after the last record or batch that was read or passed over
	end     int64                                                // the offset after the last batch; 0 before the first
	dense   bool                                                 // the answer ends before a batch that does not begin at end
	jumped  bool                                                 // there was such a batch
	begun   bool                                                 // the answer has a whole batch

	active map[int64]struct{} // producers with an open transaction here that is aborted later
	base   header             // of the current batch
	body   []byte             // the records of the current batch that are left, decompressed
	unread int32              // the number of those records
	delta  int64              // the offset delta of the last record read; -1 before the first

	headers []Header // of all records since DropRecords was last called
	keys    headerKeys
	buffer  *bytes.Buffer // for decompression; nil until a compressed batch is met
	limit   int64         // how many bytes a batch may decompress to; zero: MaxSize
}

// Reset gives the reader a new answer: its record batches, its list of aborted transactions, and the
// offset that the fetch asked for. The reader changes the list; a caller that needs it later passes a
// copy. Records of the answer before become invalid.
func (r *Reader) Reset(data []byte, aborted []kmsg.FetchResponseTopicPartitionAbortedTransaction, offset int64) {
	r.Close()
	r.data, r.aborted, r.next = data, aborted, offset
	r.end, r.begun, r.dense, r.jumped = 0, false, false, false
	slices.SortFunc(r.aborted, func(a, b kmsg.FetchResponseTopicPartitionAbortedTransaction) int {
		return cmp.Compare(a.FirstOffset, b.FirstOffset)
	})
}

// StopAtJump makes the answer end before a batch that does not begin where the batch before it ended. No checksum
// covers the offset of a batch, and only compaction leaves out offsets.
func (r *Reader) StopAtJump() { r.dense = true }

// Jumped reports whether [Reader.StopAtJump] has ended the answer.
func (r *Reader) Jumped() bool { return r.jumped }

// Close returns the buffer for decompression and releases the answer. The records read become invalid. [Reader.NextOffset] keeps its value.
func (r *Reader) Close() {
	r.DropRecords()
	r.data, r.aborted, r.body, r.unread = nil, nil, nil, 0
	clear(r.active)
	r.base = header{}
	r.releaseBuffer()
}

// Next fills rec with the next record. It returns false at the end of the answer, where a batch that is
// cut off after whole batches does not count, and with an error that wraps [ErrCorrupt] or
// [ErrOldMessageFormat].
//
// After an error [Reader.NextOffset] is the first offset that cannot be read, and
// [Reader.NextReadable] is the offset to continue from. After [ErrOldMessageFormat] the rest of the
// same answer can be read: call [Reader.SkipTo] with the offset of NextReadable, then Next.
func (r *Reader) Next(rec *Record) (bool, error) {
	for {
		for r.unread > 0 {
			r.unread--
			if err := r.decodeRecord(rec); err != nil {
				return false, err
			}
			if r.unread == 0 && len(r.body) > 0 {
				return false, fmt.Errorf("%w at offset %d: %d bytes after the last record", ErrCorrupt, r.base.offset, len(r.body))
			}
			wanted := rec.Offset >= r.next // the batch may begin before the offset that was asked for
			if wanted {
				r.next = rec.Offset + 1
			}
			if r.unread == 0 { // compaction may have removed records after the last one
				r.next = r.base.last() + 1
			}
			if wanted {
				return true, nil
			}
		}
		more, err := r.nextBatch()
		if !more || err != nil {
			return false, err
		}
	}
}

// NextOffset returns the offset after the last record or batch that was read or passed over. At the end
// of the answer it is the offset to fetch next.
func (r *Reader) NextOffset() int64 { return r.next }

// SkipTo makes Next pass over records before the offset. The caller uses it to leave out old message
// sets after [ErrOldMessageFormat].
func (r *Reader) SkipTo(offset int64) { r.next = offset }

// MustDropRecords says that the caller has to be done with all records read so far, and call
// [Reader.DropRecords], before it calls [Reader.Next] again. That is so at the end of a batch of an
// answer with compression, because the next batch is decompressed into the same buffer, and when
// [MaxHeaders] headers are held.
func (r *Reader) MustDropRecords() bool {
	return len(r.headers) >= MaxHeaders || r.unread == 0 && r.buffer != nil
}

// DropRecords releases the records read so far, so that the memory of their headers is used again.
func (r *Reader) DropRecords() {
	clear(r.headers) // they point into the answer, which may be large
	r.headers = r.headers[:0]
}

// nextBatch moves to the next batch with records for a read_committed consumer. It returns false at the
// end.
func (r *Reader) nextBatch() (bool, error) {
	for len(r.data) > magicAt {
		offset := int64(binary.BigEndian.Uint64(r.data))
		r.base = header{offset: offset}
		if magic := r.data[magicAt]; magic < 2 && !r.isDamagedMagic() {
			if r.skipOldSets(); r.base.last() < r.next {
				continue
			}
			return false, fmt.Errorf("%w (magic %d at offset %d)", ErrOldMessageFormat, magic, offset)
		}
		size := int64(int32(binary.BigEndian.Uint32(r.data[lengthAt:])))
		if size < headerSize-lengthFrom {
			return false, fmt.Errorf("%w at offset %d: length %d", ErrCorrupt, offset, size)
		}
		end := lengthFrom + size
		if end > int64(len(r.data)) {
			break // cut off: a broker fills its answer to the byte
		}
		raw := r.data[:end]
		r.data = r.data[end:]
		r.begun = true
		before := r.end
		if err := r.parseHeader(raw); err != nil {
			return false, err
		}
		if r.dense && before > 0 && offset > before {
			r.data, r.jumped = nil, true
			return false, nil
		}
		body := raw[headerSize:]
		emptied := r.base.count == 0 && len(body) == 0 // compaction keeps the header of a batch that it empties
		if r.skipsBatch(body) || r.base.last() < r.next || emptied {
			r.next = max(r.next, r.base.last()+1)
			continue
		}
		if r.base.count == 0 {
			return false, fmt.Errorf("%w at offset %d: no records in %d bytes", ErrCorrupt, offset, len(body))
		}
		if err := r.decompress(body); err != nil {
			return false, err
		}
		r.unread, r.delta = r.base.count, -1
		return true, nil
	}
	if !r.begun && len(r.data) > 0 {
		// Kafka answers with at least one whole batch, however large (KIP-74). The same fetch would get
		// the same answer for ever, so this is not taken for a batch that was cut off.
		return false, fmt.Errorf("%w at offset %d: no whole batch in %d bytes", ErrCorrupt, r.next, len(r.data))
	}
	return false, nil
}

// isDamagedMagic reports whether the next batch has the CRC of a batch of magic 2, so that its magic is wrong. The
// CRC does not cover the magic.
func (r *Reader) isDamagedMagic() bool {
	end := lengthFrom + int64(int32(binary.BigEndian.Uint32(r.data[lengthAt:])))
	return end >= headerSize && end <= int64(len(r.data)) &&
		crc32.Checksum(r.data[crcFrom:end], castagnoli) == binary.BigEndian.Uint32(r.data[crcAt:])
}

// skipOldSets passes over all adjacent message sets of magic 0 and 1 and sets the current batch's
// offset to the last of theirs: there may be a set for each message. The offset of a set that is cut
// off is known, so that set is passed over too.
func (r *Reader) skipOldSets() {
	r.begun = true
	for len(r.data) > magicAt && r.data[magicAt] < 2 {
		r.base.offset = max(r.base.offset, int64(binary.BigEndian.Uint64(r.data)))
		r.end = max(r.end, r.base.offset+1)
		end := lengthFrom + int64(int32(binary.BigEndian.Uint32(r.data[lengthAt:])))
		if end <= magicAt || end > int64(len(r.data)) {
			r.data = nil
			return
		}
		r.data = r.data[end:]
	}
}

// NextReadable returns, after an error, the offset to continue from so that the batch with the error is
// left out.
//
// The header may be a part of the damage, so the offset is checked. The reader believes the offset of
// the batch that follows, then the header's last offset, if they lie after the current offset and within
// [MaxSize] offsets of it. Otherwise it gives up one offset. An offset that was believed unchecked would
// give up good records, or go back.
func (r *Reader) NextReadable() int64 {
	credible := func(next int64) bool { return next > r.next && next-r.next <= MaxSize }
	if len(r.data) >= 8 {
		if next := int64(binary.BigEndian.Uint64(r.data)); credible(next) && next > r.base.offset {
			return next
		}
	}
	if next := r.base.last() + 1; credible(next) {
		return next
	}
	return r.next + 1
}
