package consumer

import (
	"encoding/binary"
	"errors"
	"math"
	"runtime"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// FuzzBatches gives the reader answers of which the CRCs are right, so that more than the CRC is
// tested. Whatever the answer: no panic, offsets ascend from the one asked for, next never goes
// back, an answer that ends without an error is passed over as far as its batches are whole, and what is
// allocated is in proportion to the answer and to what its batches may decompress to.
func FuzzBatches(f *testing.F) {
	records := values("first", "second", "third")
	records[1].Headers = []kmsg.Header{{Key: "event-type", Value: []byte("news")}, {Key: "event-type"}}
	for _, p := range packings(f) {
		batch := makeBatch(recordBatch{FirstOffset: 5, LastOffsetDelta: 4, Attributes: p.codec, Records: p.pack(appendRecords(records))}, records...)
		f.Add(batch, int64(5), int64(0), int64(0))
		f.Add(append(batch, simple(10, "tail")...), int64(9), int64(1), int64(5))
	}
	f.Add(slices.Concat(txn(0, 1, "a"), marker(1, 1, false), txn(2, 1, "b")), int64(0), int64(1), int64(0))
	f.Add(makeBatch(recordBatch{FirstOffset: 3, LastOffsetDelta: 2}), int64(4), int64(0), int64(0))
	f.Add(simple(math.MaxInt64-1, "last of all"), int64(0), int64(0), int64(0))
	f.Add([]byte("0123456789abcdef\x01"), int64(0), int64(0), int64(0))
	f.Add(slices.Concat(old(0, 3, "a"), old(1, 4, "b"), simple(5, "c"), old(1, 6, "d")), int64(3), int64(0), int64(0))
	for _, p := range packings(f) {
		if p.codec != 0 { // a hundred times what a batch may decompress to here
			f.Add(makeBatch(recordBatch{Attributes: p.codec, NumRecords: 1, Records: p.pack(make([]byte, 100*fuzzBatch))}), int64(0), int64(0), int64(0))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, asked, producer, first int64) {
		if asked < 0 {
			return // nobody asks for it
		}
		data = slices.Clone(data)
		most := allocated() + 8<<20 + 64*uint64(len(data))
		var end int64 // behind the last whole batch
		for rest := data; len(rest) >= batchHeaderSize; {
			size := int64(int32(binary.BigEndian.Uint32(rest[8:]))) + 12
			if size < batchHeaderSize || size > int64(len(rest)) {
				break
			}
			var rb recordBatch
			if err := rb.ReadFrom(seal(rest[:size:size])); err != nil {
				t.Fatal(err)
			}
			last := rb.FirstOffset
			if rb.Magic < 0 || rb.Magic > 1 { // no old message set, whose offset is the last
				last += int64(rb.LastOffsetDelta)
			}
			end = max(end, last+1)
			if most += 8 * fuzzBatch; rb.Attributes&attrCodecMask == 3 {
				most += 20 << 20 // the blocks of lz4, which are of up to 8 MiB
			}
			rest = rest[size:]
		}
		b := batches{data: data, next: asked, aborted: []abortedTxn{{ProducerID: producer, FirstOffset: first}}, limit: fuzzBatch}
		defer b.close()
		foreseen := behindBatches(data, asked)
		passedOld := false
		last := asked - 1
		for {
			var rec Record
			before := b.next
			b.headers = b.headers[:0]
			more, err := b.read(&rec)
			if b.next < before {
				t.Fatalf("next goes back from %d to %d", before, b.next)
			}
			if err != nil && !errors.Is(err, ErrCorruptBatch) && !errors.Is(err, ErrOldMessageFormat) {
				t.Fatalf("undocumented error %v", err)
			}
			if err == nil && !more && !passedOld && (b.next < end || b.next < foreseen) {
				t.Fatalf("ends at %d before the end of the last whole batch, %d, which is foreseen as %d", b.next, end, foreseen)
			}
			behind := b.behind()
			if err != nil && b.next < math.MaxInt64 && (behind <= b.next || behind-b.next > maxBatchSize) {
				t.Fatalf("next is %d, and %d behind the error", b.next, behind)
			}
			if errors.Is(err, ErrOldMessageFormat) && b.next < math.MaxInt64 {
				b.next, passedOld = behind, true
				continue
			}
			if err != nil || !more {
				break
			}
			if rec.Offset <= last || b.next <= rec.Offset {
				t.Fatalf("record %d after %d, next %d", rec.Offset, last, b.next)
			}
			last = rec.Offset
		}
		if now := allocated(); now > most {
			t.Fatalf("%d bytes allocated more than the bound for an answer of %d", now-most, len(data))
		}
	})
}

// fuzzBatch is what a batch may decompress to here.
const fuzzBatch = 64 << 10

// allocated returns how many bytes have been allocated so far.
func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}
