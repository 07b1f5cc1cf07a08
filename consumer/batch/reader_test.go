package batch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/twmb/franz-go/pkg/kmsg"

	"herald/consumer/batch/batchtest"
)

// readerOf returns a reader of an answer without aborted transactions to a fetch of the offset.
func readerOf(t *testing.T, data []byte, offset int64) *Reader {
	t.Helper()
	r := new(Reader)
	r.Reset(data, nil, offset)
	t.Cleanup(r.Close)
	return r
}

// readAll reads to the end or to the first error. It copies each record, because the next call of Next
// may overwrite it.
func readAll(r *Reader) ([]Record, error) {
	var list []Record
	for {
		var rec Record
		more, err := r.Next(&rec)
		if !more || err != nil {
			return list, err
		}
		rec.Key, rec.Value, rec.encoded = bytes.Clone(rec.Key), bytes.Clone(rec.Value), bytes.Clone(rec.encoded)
		var headers []Header
		for _, h := range rec.Headers {
			headers = append(headers, Header{h.Key, bytes.Clone(h.Value)})
		}
		rec.Headers = headers
		list = append(list, rec)
	}
}

// summary returns each record as "offset value".
func summary(records []Record) []string {
	var list []string
	for _, r := range records {
		list = append(list, fmt.Sprintf("%d %s", r.Offset, r.Value))
	}
	return list
}

// TestRecordFieldsKeepTheirValues checks that each field has the value written, and that null differs from
// empty, although the records share the memory of their headers.
func TestRecordFieldsKeepTheirValues(t *testing.T) {
	records := []kmsg.Record{
		{Key: []byte("k"), Value: []byte("v"), Headers: []kmsg.Header{{Key: "a", Value: []byte("1")}, {Key: "a", Value: []byte("2")}, {Key: "b"}}},
		{OffsetDelta: 1, TimestampDelta64: 5},
		{OffsetDelta: 2, TimestampDelta64: -7, Key: []byte{}, Value: []byte{}, Headers: []kmsg.Header{{Key: "", Value: []byte{}}}},
		{OffsetDelta: 7, TimestampDelta64: 1 << 40, Key: []byte{0, 0xff}, Headers: []kmsg.Header{{Key: "b"}, {Key: "a", Value: []byte("3")}}},
	}
	after := func(ms int64) time.Time { return time.UnixMilli(1_000_000 + ms) }
	want := []Record{
		{Offset: 10, Time: after(0), Key: []byte("k"), Value: []byte("v"), Headers: []Header{{"a", []byte("1")}, {"a", []byte("2")}, {"b", nil}}},
		{Offset: 11, Time: after(5)},
		{Offset: 12, Time: after(-7), Key: []byte{}, Value: []byte{}, Headers: []Header{{"", []byte{}}}},
		{Offset: 17, Time: after(1 << 40), Key: []byte{0, 0xff}, Headers: []Header{{"b", nil}, {"a", []byte("3")}}},
	}
	for _, test := range []struct {
		name   string
		attrs  int16
		stamps []time.Time // instead of the time of each record
	}{
		{"create time", 0, nil},
		{"log append time", attrLogAppend, []time.Time{time.UnixMilli(77), time.UnixMilli(77), time.UnixMilli(77), time.UnixMilli(77)}},
	} {
		t.Run(test.name, func(t *testing.T) {
			want := slices.Clone(want)
			for i, stamp := range test.stamps {
				want[i].Time = stamp
			}
			r := readerOf(t, batchtest.Make(kmsg.RecordBatch{FirstOffset: 10, Attributes: test.attrs, FirstTimestamp: 1_000_000, MaxTimestamp: 77}, records...), 10)
			got, err := readAll(r)
			if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(Record{})); err != nil || diff != "" {
				t.Errorf("%v\n%s", err, diff)
			}
		})
	}
}

// TestCompactedLogFromEveryOffset reads a compacted log from each of its offsets. The log has holes between
// records and after the last record of a batch, and a batch of which only the header is left. The reader
// must reach the end from everywhere, or a consumer would send the same fetch for ever.
func TestCompactedLogFromEveryOffset(t *testing.T) {
	holes := []kmsg.Record{{OffsetDelta: 1, Value: []byte("b")}, {OffsetDelta: 4, Value: []byte("e")}}
	last := []kmsg.Record{{OffsetDelta: 0, Value: []byte("k")}}
	for _, p := range packings(t) {
		log := [][]byte{
			batchtest.Make(kmsg.RecordBatch{FirstOffset: 100, LastOffsetDelta: 6, Attributes: p.codec, Records: p.pack(batchtest.AppendRecords(holes))}, holes...),
			batchtest.Make(kmsg.RecordBatch{FirstOffset: 107, LastOffsetDelta: 2}),
			batchtest.Make(kmsg.RecordBatch{FirstOffset: 110, LastOffsetDelta: 3, Attributes: p.codec, Records: p.pack(batchtest.AppendRecords(last))}, last...),
		}
		bases := []int64{100, 107, 110, 114}
		for asked := int64(100); asked < 114; asked++ {
			var data []byte
			for i, batch := range log {
				if asked < bases[i+1] {
					data = append(data, batch...)
				}
			}
			var want []string
			for i, offset := range []int64{101, 104, 110} {
				if offset >= asked {
					want = append(want, []string{"101 b", "104 e", "110 k"}[i])
				}
			}
			r := readerOf(t, data, asked)
			got, err := readAll(r)
			if diff := cmp.Diff(want, summary(got)); err != nil || diff != "" || r.next != 114 {
				t.Errorf("%s, offset %d: %v, next %d, want 114\n%s", p.name, asked, err, r.next, diff)
			}
		}
	}
}

// TestCutAtEveryByte cuts an answer everywhere, because a broker fills its answers to the byte. The reader
// reads the whole batches and nothing of the batch that is cut. It refuses an answer without one whole
// batch, which Kafka never sends (KIP-74): a consumer would fetch it again and again.
func TestCutAtEveryByte(t *testing.T) {
	for _, p := range packings(t) {
		t.Run(p.name, func(t *testing.T) {
			var data []byte
			var ends []int
			for base := int64(0); base < 6; base += 2 {
				records := batchtest.Values(fmt.Sprint("v", base), fmt.Sprint("w", base))
				data = append(data, batchtest.Make(kmsg.RecordBatch{FirstOffset: base, Attributes: p.codec, Records: p.pack(batchtest.AppendRecords(records))}, records...)...)
				ends = append(ends, len(data))
			}
			all := []string{"0 v0", "1 w0", "2 v2", "3 w2", "4 v4", "5 w4"}
			for cut := range len(data) + 1 {
				whole := 0
				for _, end := range ends {
					if cut >= end {
						whole++
					}
				}
				r := readerOf(t, data[:cut:cut], 0)
				got, err := readAll(r)
				if refused := cut > 0 && whole == 0; refused != errors.Is(err, ErrCorrupt) || !refused && err != nil {
					t.Fatalf("cut at %d: error %v", cut, err)
				}
				if diff := cmp.Diff(all[:2*whole], summary(got)); whole > 0 && diff != "" || r.next != int64(2*whole) {
					t.Fatalf("cut at %d: next %d, %s", cut, r.next, diff)
				}
			}
		})
	}
}

// TestEveryFlippedBitIsDetected checks that the reader returns ErrCorrupt if any bit that the CRC covers,
// or any bit of the CRC, is flipped.
func TestEveryFlippedBitIsDetected(t *testing.T) {
	good := batchtest.Simple(5, "value")
	for i := crcFrom - 4; i < len(good); i++ {
		for bit := range 8 {
			data := slices.Clone(good)
			data[i] ^= 1 << bit
			r := readerOf(t, data, 5)
			if got, err := readAll(r); !errors.Is(err, ErrCorrupt) || len(got) > 0 || r.next != 5 {
				t.Fatalf("byte %d, bit %d: %v, error %v, next %d", i, bit, summary(got), err, r.next)
			}
		}
	}
}

// contradiction is a batch at offset 7 that contradicts itself.
type contradiction struct {
	name string
	data []byte
	next int64 // the offset after the records that were read
}

// contradictions returns batches that contradict themselves although their CRC is right.
func contradictions() []contradiction {
	records := batchtest.Values("a", "b")
	body := batchtest.AppendRecords(records)
	raw := func(b ...byte) []byte { return slices.Concat(body, b) }
	length := func(n int32) []byte {
		data := batchtest.Simple(7, "a", "b")
		binary.BigEndian.PutUint32(data[8:], uint32(n))
		return data
	}
	magic := func(m byte) []byte {
		data := batchtest.Simple(7, "a", "b")
		data[magicAt] = m
		return data
	}
	return []contradiction{
		{"fewer records than counted", batchtest.Make(kmsg.RecordBatch{FirstOffset: 7, NumRecords: 3, LastOffsetDelta: 2, Records: body}), 9},
		{"more records than counted", batchtest.Make(kmsg.RecordBatch{FirstOffset: 7, NumRecords: 1, LastOffsetDelta: 1, Records: body}), 7},
		{"no records counted", batchtest.Make(kmsg.RecordBatch{FirstOffset: 7, LastOffsetDelta: 1, Records: body}), 7},
		{"more records than offsets", batchtest.Make(kmsg.RecordBatch{FirstOffset: 7, NumRecords: 2, Records: body}), 7},
		{"negative count", batchtest.Make(kmsg.RecordBatch{FirstOffset: 7, NumRecords: -1, LastOffsetDelta: 1, Records: body}), 7},
		{"negative last offset", batchtest.Make(kmsg.RecordBatch{FirstOffset: 7, NumRecords: 1, LastOffsetDelta: -1, Records: body}), 7},
		{"negative offset", batchtest.Make(kmsg.RecordBatch{FirstOffset: -7}, records...), 7},
		{"offsets beyond the largest", batchtest.Make(kmsg.RecordBatch{FirstOffset: math.MaxInt64 - 1}, records...), 7},
		{"offset after the end of the batch", batchtest.Make(kmsg.RecordBatch{FirstOffset: 7, LastOffsetDelta: 1, NumRecords: 1}, kmsg.Record{OffsetDelta: 2}), 7},
		{"offset before the start of the batch", batchtest.Make(kmsg.RecordBatch{FirstOffset: 7, LastOffsetDelta: 1}, kmsg.Record{OffsetDelta: -1}), 7},
		{"offsets that descend", batchtest.Make(kmsg.RecordBatch{FirstOffset: 7, LastOffsetDelta: 1}, kmsg.Record{OffsetDelta: 1}, kmsg.Record{}), 9},
		{"an offset twice", batchtest.Make(kmsg.RecordBatch{FirstOffset: 7, LastOffsetDelta: 1}, kmsg.Record{}, kmsg.Record{}), 8},
		{"bytes after the last record", batchtest.Make(kmsg.RecordBatch{FirstOffset: 7, Records: raw(0)}, records...), 8},
		{"a record of no bytes", batchtest.Make(kmsg.RecordBatch{FirstOffset: 7, NumRecords: 1, Records: []byte{0}}), 7},
		{"negative length of a record", batchtest.Make(kmsg.RecordBatch{FirstOffset: 7, NumRecords: 1, Records: []byte{1}}), 7},
		{"a record longer than the batch", batchtest.Make(kmsg.RecordBatch{FirstOffset: 7, NumRecords: 1, Records: []byte{100, 0, 0, 0, 1, 1, 0}}), 7},
		{"a record longer than its fields", batchtest.Make(kmsg.RecordBatch{FirstOffset: 7, NumRecords: 1, Records: []byte{14, 0, 0, 0, 1, 1, 0, 0}}), 7},
		{"a record shorter than its fields", batchtest.Make(kmsg.RecordBatch{FirstOffset: 7, NumRecords: 1, Records: []byte{10, 0, 0, 0, 1, 1, 0}}), 7},
		{"length of a key below null", batchtest.Make(kmsg.RecordBatch{FirstOffset: 7, NumRecords: 1, Records: []byte{12, 0, 0, 0, 3, 1, 0}}), 7},
		{"more headers than bytes", batchtest.Make(kmsg.RecordBatch{FirstOffset: 7, NumRecords: 1, Records: []byte{12, 0, 0, 0, 1, 1, 2}}), 7},
		{"negative count of headers", batchtest.Make(kmsg.RecordBatch{FirstOffset: 7, NumRecords: 1, Records: []byte{12, 0, 0, 0, 1, 1, 1}}), 7},
		{"null as a header's key", batchtest.Make(kmsg.RecordBatch{FirstOffset: 7, NumRecords: 1, Records: []byte{16, 0, 0, 0, 1, 1, 2, 1, 1}}), 7},
		{"a varint without end", batchtest.Make(kmsg.RecordBatch{FirstOffset: 7, NumRecords: 1, Records: bytes.Repeat([]byte{0xff}, 20)}), 7},
		{"unknown magic", magic(3), 7},
		{"negative magic", magic(0xfe), 7},
		{"unknown codec", batchtest.Make(kmsg.RecordBatch{FirstOffset: 7, Attributes: 5}, records...), 7},
		{"not gzip", batchtest.Make(kmsg.RecordBatch{FirstOffset: 7, Attributes: 1}, records...), 7},
		{"not snappy", batchtest.Make(kmsg.RecordBatch{FirstOffset: 7, Attributes: 2}, records...), 7},
		{"not lz4", batchtest.Make(kmsg.RecordBatch{FirstOffset: 7, Attributes: 3}, records...), 7},
		{"not zstd", batchtest.Make(kmsg.RecordBatch{FirstOffset: 7, Attributes: 4}, records...), 7},
		{"negative length", length(-1), 7},
		{"length zero", length(0), 7},
		{"length of less than a header", length(48), 7},
		{"length of more than the answer", length(math.MaxInt32), 7},
	}
}

// TestContradictoryBatchIsCorrupt checks batches that contradict themselves although their CRC is right.
// The reader returns an error, and its next offset is the offset of the first record that it did not read.
func TestContradictoryBatchIsCorrupt(t *testing.T) {
	for _, test := range contradictions() {
		t.Run(test.name, func(t *testing.T) {
			r := readerOf(t, test.data, 7)
			if got, err := readAll(r); !errors.Is(err, ErrCorrupt) || r.next != test.next {
				t.Errorf("%v, error %v, next %d, want ErrCorrupt and %d", summary(got), err, r.next, test.next)
			}
			// The reader still returns the records before the batch.
			r = readerOf(t, slices.Concat(batchtest.Simple(3, "x", "y"), batchtest.Simple(5, "z", "z"), test.data), 4)
			got, err := readAll(r)
			if test.name == "length of more than the answer" && err == nil && r.next == 7 {
				return // after a whole batch, this batch counts as cut off
			}
			if !errors.Is(err, ErrCorrupt) || len(got) < 3 || r.next != test.next {
				t.Errorf("after whole batches: %v, error %v, next %d", summary(got), err, r.next)
			}
		})
	}
}

// TestCorruptBatchLosesNoOtherBatch checks that the reader gives up the corrupt batch alone. It must not
// give up the records after that batch, and it must not go back to records it has read, although the CRC
// covers neither the offset nor the length.
func TestCorruptBatchLosesNoOtherBatch(t *testing.T) {
	edit := func(change func(batch []byte)) []byte {
		bad, good := batchtest.Simple(7, "a", "b"), batchtest.Simple(9, "c")
		bad[len(bad)-1]++ // the CRC is wrong
		change(bad)
		return append(bad, good...)
	}
	for _, test := range []struct {
		name string
		data []byte
		want int64
	}{
		{"only the CRC", edit(func([]byte) {}), 9},
		{"no batch after it", edit(func([]byte) {})[:len(batchtest.Simple(7, "a", "b"))], 9},
		{"length too small", edit(func(b []byte) { b[11]-- }), 9},
		{"length zero", edit(func(b []byte) { b[11] = 0 }), 8},
		{"the largest offset", edit(func(b []byte) { copy(b, "\x7f\xff\xff\xff\xff\xff\xff\xff") }), 8},
		{"offset far ahead", edit(func(b []byte) { b[1] = 1 }), 8},
		{"offset of a batch before", edit(func(b []byte) { b[7] = 0 }), 9},
	} {
		r := readerOf(t, test.data, 7)
		if _, err := readAll(r); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: error %v", test.name, err)
		}
		if got := r.NextReadable(); got != test.want {
			t.Errorf("%s: continues from %d, want %d", test.name, got, test.want)
		}
	}
}
