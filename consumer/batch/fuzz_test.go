package batch

import (
	"encoding/binary"
	"errors"
	"math"
	"runtime"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"herald/consumer/batch/batchtest"
)

// addReaderSeeds adds answers with all codecs, transactions, old message sets and decompression bombs to
// the corpus.
func addReaderSeeds(f *testing.F) {
	f.Helper()
	records := batchtest.Values("first", "second", "third")
	records[1].Headers = []kmsg.Header{{Key: "event-type", Value: []byte("news")}, {Key: "event-type"}}
	for _, p := range packings(f) {
		batch := batchtest.Make(kmsg.RecordBatch{FirstOffset: 5, LastOffsetDelta: 4, Attributes: p.codec, Records: p.pack(batchtest.AppendRecords(records))}, records...)
		f.Add(batch, int64(5), int64(0), int64(0))
		f.Add(append(batch, batchtest.Simple(10, "tail")...), int64(9), int64(1), int64(5))
	}
	f.Add(slices.Concat(batchtest.Transaction(0, 1, "a"), batchtest.Marker(1, 1, false), batchtest.Transaction(2, 1, "b")), int64(0), int64(1), int64(0))
	f.Add(batchtest.Make(kmsg.RecordBatch{FirstOffset: 3, LastOffsetDelta: 2}), int64(4), int64(0), int64(0))
	f.Add(batchtest.Simple(math.MaxInt64-1, "last of all"), int64(0), int64(0), int64(0))
	f.Add([]byte("0123456789abcdef\x01"), int64(0), int64(0), int64(0))
	f.Add(slices.Concat(batchtest.Old(0, 3, "a"), batchtest.Old(1, 4, "b"), batchtest.Simple(5, "c"), batchtest.Old(1, 6, "d")), int64(3), int64(0), int64(0))
	for _, p := range packings(f) {
		if p.codec != 0 { // a hundred times the limit
			f.Add(batchtest.Make(kmsg.RecordBatch{Attributes: p.codec, NumRecords: 1, Records: p.pack(make([]byte, 100*fuzzBatch))}), int64(0), int64(0), int64(0))
		}
	}
}

// sealAll corrects the CRCs of all whole batches in data, in place. It returns the offset after the last
// whole batch, and how much memory the batches may take when they are decompressed.
func sealAll(t *testing.T, data []byte) (end int64, memory uint64) {
	t.Helper()
	for rest := data; len(rest) >= headerSize; {
		size := int64(int32(binary.BigEndian.Uint32(rest[8:]))) + 12
		if size < headerSize || size > int64(len(rest)) {
			break
		}
		var rb kmsg.RecordBatch
		if err := rb.ReadFrom(batchtest.Seal(rest[:size:size])); err != nil {
			t.Fatal(err)
		}
		last := rb.FirstOffset
		if rb.Magic < 0 || rb.Magic > 1 { // the offset of an old message set is its last
			last += int64(rb.LastOffsetDelta)
		}
		end = max(end, last+1)
		if memory += 8 * fuzzBatch; rb.Attributes&attrCodecMask == 3 {
			memory += 20 << 20 // blocks of lz4, of up to 8 MiB
		}
		rest = rest[size:]
	}
	return end, memory
}

// FuzzReader passes any bytes to the reader as an answer, with the CRCs corrected so that the test reaches
// the code after the check of the CRC. The reader never panics. Offsets ascend from the requested offset,
// and the next offset never goes back. Without an error, the reader reads an answer to the end of its last
// whole batch. The memory that the reader allocates is in proportion to the answer and to the limit of its
// batches.
func FuzzReader(f *testing.F) {
	addReaderSeeds(f)
	f.Fuzz(func(t *testing.T, data []byte, asked, producer, first int64) {
		if asked < 0 {
			return // no consumer asks for such an offset
		}
		data = slices.Clone(data)
		most := allocated() + 8<<20 + 64*uint64(len(data))
		end, memory := sealAll(t, data)
		most += memory
		foreseen := EndOffset(data, asked)
		r := Reader{limit: fuzzBatch}
		r.Reset(data, []abortedTransaction{{ProducerID: producer, FirstOffset: first}}, asked)
		defer r.Close()
		skippedOld := false
		last := asked - 1
		for {
			var rec Record
			before := r.next
			r.DropRecords()
			more, err := r.Next(&rec)
			if r.next < before {
				t.Fatalf("next goes back from %d to %d", before, r.next)
			}
			if err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrOldMessageFormat) {
				t.Fatalf("undocumented error %v", err)
			}
			if err == nil && !more && !skippedOld && (r.next < end || r.next < foreseen) {
				t.Fatalf("ends at %d before the end of the last whole batch, %d; EndOffset is %d", r.next, end, foreseen)
			}
			readable := r.NextReadable()
			if err != nil && r.next < math.MaxInt64 && (readable <= r.next || readable-r.next > MaxSize) {
				t.Fatalf("next is %d, and the reader continues from %d after the error", r.next, readable)
			}
			if errors.Is(err, ErrOldMessageFormat) && r.next < math.MaxInt64 {
				r.SkipTo(readable)
				skippedOld = true
				continue
			}
			if err != nil || !more {
				break
			}
			if rec.Offset <= last || r.next <= rec.Offset {
				t.Fatalf("record %d after %d, next %d", rec.Offset, last, r.next)
			}
			last = rec.Offset
		}
		if now := allocated(); now > most {
			t.Fatalf("%d bytes allocated more than the bound for an answer of %d", now-most, len(data))
		}
	})
}

// fuzzBatch is how many bytes a batch may decompress to in FuzzReader.
const fuzzBatch = 64 << 10

// allocated returns how many bytes the process has allocated so far.
func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}
