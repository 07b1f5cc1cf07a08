package consumer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kmsg"
)

type (
	abortedTxn  = kmsg.FetchResponseTopicPartitionAbortedTransaction
	recordBatch = kmsg.RecordBatch
)

// appendRecords encodes records as a batch holds them before it is compressed.
func appendRecords(records []kmsg.Record) []byte {
	var out []byte
	for _, r := range records {
		r.Length = 0 // a varint of one byte
		r.Length = int32(len(r.AppendTo(nil)) - 1)
		out = r.AppendTo(out)
	}
	return out
}

// makeBatch encodes a batch with kmsg. What rb leaves zero follows from the records.
func makeBatch(rb recordBatch, records ...kmsg.Record) []byte {
	rb.Magic = 2
	rb.PartitionLeaderEpoch, rb.FirstSequence = -1, -1
	if rb.Records == nil {
		rb.Records = appendRecords(records)
	}
	if len(records) > 0 {
		if rb.LastOffsetDelta == 0 {
			rb.LastOffsetDelta = records[len(records)-1].OffsetDelta
		}
		if rb.NumRecords == 0 {
			rb.NumRecords = int32(len(records))
		}
	}
	return seal(rb.AppendTo(nil))
}

// seal writes length and CRC of the batch that raw is, in place.
func seal(raw []byte) []byte {
	binary.BigEndian.PutUint32(raw[8:], uint32(len(raw)-12))
	binary.BigEndian.PutUint32(raw[17:], crc32.Checksum(raw[21:], crc32.MakeTable(crc32.Castagnoli)))
	return raw
}

// values returns records with the given values and consecutive offsets.
func values(list ...string) []kmsg.Record {
	var records []kmsg.Record
	for i, v := range list {
		records = append(records, kmsg.Record{OffsetDelta: int32(i), Value: []byte(v)})
	}
	return records
}

// simple is an uncompressed batch of one record for each value.
func simple(base int64, list ...string) []byte {
	return makeBatch(recordBatch{FirstOffset: base}, values(list...)...)
}

// txn is a batch of a transaction; marker is the control batch that ends one.
func txn(base, producer int64, list ...string) []byte {
	return makeBatch(recordBatch{FirstOffset: base, ProducerID: producer, Attributes: attrTransaction}, values(list...)...)
}

func marker(base, producer int64, commit bool) []byte {
	key := []byte{0, 0, 0, 0} // version, type
	if commit {
		key[3] = 1
	}
	r := kmsg.Record{Key: key, Value: []byte{0, 0, 0, 0, 0, 1}} // version, coordinator epoch
	return makeBatch(recordBatch{FirstOffset: base, ProducerID: producer, Attributes: attrTransaction | attrControl}, r)
}

// readAll reads to the end or to the first error. Records are copied as they are read, as every
// caller has to.
func readAll(b *batches) ([]Record, error) {
	defer b.close()
	var list []Record
	for {
		var rec Record
		more, err := b.read(&rec)
		if !more || err != nil {
			return list, err
		}
		rec.Key, rec.Value = bytes.Clone(rec.Key), bytes.Clone(rec.Value)
		var headers []Header
		for _, h := range rec.Headers {
			headers = append(headers, Header{h.Key, bytes.Clone(h.Value)})
		}
		rec.Headers = headers
		list = append(list, rec)
	}
}

// summary is records as "offset value".
func summary(records []Record) []string {
	var list []string
	for _, r := range records {
		list = append(list, fmt.Sprintf("%d %s", r.Offset, r.Value))
	}
	return list
}

// TestRecordFields wants each field as it was written, null apart from empty, whatever the record
// before left in the headers that are reused.
func TestRecordFields(t *testing.T) {
	records := []kmsg.Record{
		{Key: []byte("k"), Value: []byte("v"), Headers: []kmsg.Header{{Key: "a", Value: []byte("1")}, {Key: "a", Value: []byte("2")}, {Key: "b"}}},
		{OffsetDelta: 1, TimestampDelta64: 5},
		{OffsetDelta: 2, TimestampDelta64: -7, Key: []byte{}, Value: []byte{}, Headers: []kmsg.Header{{Key: "", Value: []byte{}}}},
		{OffsetDelta: 7, TimestampDelta64: 1 << 40, Key: []byte{0, 0xff}, Headers: []kmsg.Header{{Key: "b"}, {Key: "a", Value: []byte("3")}}},
	}
	at := func(ms int64) time.Time { return time.UnixMilli(1_000_000 + ms) }
	want := []Record{
		{Offset: 10, Time: at(0), Key: []byte("k"), Value: []byte("v"), Headers: []Header{{"a", []byte("1")}, {"a", []byte("2")}, {"b", nil}}},
		{Offset: 11, Time: at(5)},
		{Offset: 12, Time: at(-7), Key: []byte{}, Value: []byte{}, Headers: []Header{{"", []byte{}}}},
		{Offset: 17, Time: at(1 << 40), Key: []byte{0, 0xff}, Headers: []Header{{"b", nil}, {"a", []byte("3")}}},
	}
	for _, test := range []struct {
		name   string
		attrs  int16
		stamps []time.Time // instead of each record's
	}{
		{"create time", 0, nil},
		{"log append time", attrLogAppend, []time.Time{time.UnixMilli(77), time.UnixMilli(77), time.UnixMilli(77), time.UnixMilli(77)}},
	} {
		t.Run(test.name, func(t *testing.T) {
			want := slices.Clone(want)
			for i, stamp := range test.stamps {
				want[i].Time = stamp
			}
			b := batches{data: makeBatch(recordBatch{FirstOffset: 10, Attributes: test.attrs, FirstTimestamp: 1_000_000, MaxTimestamp: 77}, records...), next: 10}
			got, err := readAll(&b)
			if diff := cmp.Diff(want, got); err != nil || diff != "" {
				t.Errorf("%v\n%s", err, diff)
			}
		})
	}
}

// TestAskedForOffset asks for each offset of a log with compaction's holes: between records, behind
// the last one of a batch, and a batch of which only the header is left. Whatever is asked for, the
// end must be reached, or the same fetch would be sent for ever.
func TestAskedForOffset(t *testing.T) {
	holes := []kmsg.Record{{OffsetDelta: 1, Value: []byte("b")}, {OffsetDelta: 4, Value: []byte("e")}}
	last := []kmsg.Record{{OffsetDelta: 0, Value: []byte("k")}}
	for _, p := range packings(t) {
		log := [][]byte{
			makeBatch(recordBatch{FirstOffset: 100, LastOffsetDelta: 6, Attributes: p.codec, Records: p.pack(appendRecords(holes))}, holes...),
			makeBatch(recordBatch{FirstOffset: 107, LastOffsetDelta: 2}),
			makeBatch(recordBatch{FirstOffset: 110, LastOffsetDelta: 3, Attributes: p.codec, Records: p.pack(appendRecords(last))}, last...),
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
			b := batches{data: data, next: asked}
			got, err := readAll(&b)
			if diff := cmp.Diff(want, summary(got)); err != nil || diff != "" || b.next != 114 {
				t.Errorf("%s, offset %d: %v, next %d, want 114\n%s", p.name, asked, err, b.next, diff)
			}
		}
	}
}

// TestCutAtEveryByte cuts an answer everywhere, as a broker does that fills it to the byte: whole
// batches are read, of the last one nothing. An answer without one whole batch would be asked for
// again and again; Kafka never gives it (KIP-74).
func TestCutAtEveryByte(t *testing.T) {
	for _, p := range packings(t) {
		t.Run(p.name, func(t *testing.T) {
			var data []byte
			var ends []int
			for base := int64(0); base < 6; base += 2 {
				records := values(fmt.Sprint("v", base), fmt.Sprint("w", base))
				data = append(data, makeBatch(recordBatch{FirstOffset: base, Attributes: p.codec, Records: p.pack(appendRecords(records))}, records...)...)
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
				b := batches{data: data[:cut:cut]}
				got, err := readAll(&b)
				if stuck := cut > 0 && whole == 0; stuck != errors.Is(err, ErrCorruptBatch) || !stuck && err != nil {
					t.Fatalf("cut at %d: error %v", cut, err)
				}
				if diff := cmp.Diff(all[:2*whole], summary(got)); whole > 0 && diff != "" || b.next != int64(2*whole) {
					t.Fatalf("cut at %d: next %d, %s", cut, b.next, diff)
				}
			}
		})
	}
}

// TestEveryBitCounts flips each bit that the CRC covers, and the CRC's own.
func TestEveryBitCounts(t *testing.T) {
	good := simple(5, "value")
	for i := batchCRCFrom - 4; i < len(good); i++ {
		for bit := range 8 {
			data := slices.Clone(good)
			data[i] ^= 1 << bit
			b := batches{data: data, next: 5}
			if got, err := readAll(&b); !errors.Is(err, ErrCorruptBatch) || len(got) > 0 || b.next != 5 {
				t.Fatalf("byte %d, bit %d: %v, error %v, next %d", i, bit, summary(got), err, b.next)
			}
		}
	}
}

// TestContradictions wants no record of a batch that does not hold together, though its CRC is
// right, and next at the first record that was not read.
func TestContradictions(t *testing.T) {
	records := values("a", "b")
	body := appendRecords(records)
	raw := func(b ...byte) []byte { return slices.Concat(body, b) }
	length := func(n int32) []byte {
		data := simple(7, "a", "b")
		binary.BigEndian.PutUint32(data[8:], uint32(n))
		return data
	}
	magic := func(m byte) []byte {
		data := simple(7, "a", "b")
		data[batchMagicAt] = m
		return data
	}
	for _, test := range []struct {
		name string
		data []byte
		next int64 // behind what was read before
	}{
		{"fewer records than counted", makeBatch(recordBatch{FirstOffset: 7, NumRecords: 3, LastOffsetDelta: 2, Records: body}), 9},
		{"more records than counted", makeBatch(recordBatch{FirstOffset: 7, NumRecords: 1, LastOffsetDelta: 1, Records: body}), 7},
		{"no records counted", makeBatch(recordBatch{FirstOffset: 7, LastOffsetDelta: 1, Records: body}), 7},
		{"more records than offsets", makeBatch(recordBatch{FirstOffset: 7, NumRecords: 2, Records: body}), 7},
		{"negative count", makeBatch(recordBatch{FirstOffset: 7, NumRecords: -1, LastOffsetDelta: 1, Records: body}), 7},
		{"negative last offset", makeBatch(recordBatch{FirstOffset: 7, NumRecords: 1, LastOffsetDelta: -1, Records: body}), 7},
		{"negative offset", makeBatch(recordBatch{FirstOffset: -7}, records...), 7},
		{"offsets beyond the largest", makeBatch(recordBatch{FirstOffset: math.MaxInt64 - 1}, records...), 7},
		{"offset beyond the batch", makeBatch(recordBatch{FirstOffset: 7, LastOffsetDelta: 1, NumRecords: 1}, kmsg.Record{OffsetDelta: 2}), 7},
		{"offset before the batch", makeBatch(recordBatch{FirstOffset: 7, LastOffsetDelta: 1}, kmsg.Record{OffsetDelta: -1}), 7},
		{"offsets that descend", makeBatch(recordBatch{FirstOffset: 7, LastOffsetDelta: 1}, kmsg.Record{OffsetDelta: 1}, kmsg.Record{}), 9},
		{"an offset twice", makeBatch(recordBatch{FirstOffset: 7, LastOffsetDelta: 1}, kmsg.Record{}, kmsg.Record{}), 8},
		{"bytes behind the last record", makeBatch(recordBatch{FirstOffset: 7, Records: raw(0)}, records...), 8},
		{"a record of no bytes", makeBatch(recordBatch{FirstOffset: 7, NumRecords: 1, Records: []byte{0}}), 7},
		{"negative length of a record", makeBatch(recordBatch{FirstOffset: 7, NumRecords: 1, Records: []byte{1}}), 7},
		{"a record longer than the batch", makeBatch(recordBatch{FirstOffset: 7, NumRecords: 1, Records: []byte{100, 0, 0, 0, 1, 1, 0}}), 7},
		{"a record longer than its fields", makeBatch(recordBatch{FirstOffset: 7, NumRecords: 1, Records: []byte{14, 0, 0, 0, 1, 1, 0, 0}}), 7},
		{"a record shorter than its fields", makeBatch(recordBatch{FirstOffset: 7, NumRecords: 1, Records: []byte{10, 0, 0, 0, 1, 1, 0}}), 7},
		{"length of a key below null", makeBatch(recordBatch{FirstOffset: 7, NumRecords: 1, Records: []byte{12, 0, 0, 0, 3, 1, 0}}), 7},
		{"more headers than bytes", makeBatch(recordBatch{FirstOffset: 7, NumRecords: 1, Records: []byte{12, 0, 0, 0, 1, 1, 2}}), 7},
		{"negative count of headers", makeBatch(recordBatch{FirstOffset: 7, NumRecords: 1, Records: []byte{12, 0, 0, 0, 1, 1, 1}}), 7},
		{"null as a header's key", makeBatch(recordBatch{FirstOffset: 7, NumRecords: 1, Records: []byte{16, 0, 0, 0, 1, 1, 2, 1, 1}}), 7},
		{"a varint without end", makeBatch(recordBatch{FirstOffset: 7, NumRecords: 1, Records: bytes.Repeat([]byte{0xff}, 20)}), 7},
		{"unknown magic", magic(3), 7},
		{"negative magic", magic(0xfe), 7},
		{"unknown codec", makeBatch(recordBatch{FirstOffset: 7, Attributes: 5}, records...), 7},
		{"not gzip", makeBatch(recordBatch{FirstOffset: 7, Attributes: 1}, records...), 7},
		{"not snappy", makeBatch(recordBatch{FirstOffset: 7, Attributes: 2}, records...), 7},
		{"not lz4", makeBatch(recordBatch{FirstOffset: 7, Attributes: 3}, records...), 7},
		{"not zstd", makeBatch(recordBatch{FirstOffset: 7, Attributes: 4}, records...), 7},
		{"negative length", length(-1), 7},
		{"length zero", length(0), 7},
		{"length of less than a header", length(48), 7},
		{"length beyond the answer", length(math.MaxInt32), 7},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := batches{data: test.data, next: 7}
			if got, err := readAll(&b); !errors.Is(err, ErrCorruptBatch) || b.next != test.next {
				t.Errorf("%v, error %v, next %d, want ErrCorruptBatch and %d", summary(got), err, b.next, test.next)
			}
			// What comes before is delivered and not lost by the error.
			b = batches{data: slices.Concat(simple(3, "x", "y"), simple(5, "z", "z"), test.data), next: 4}
			got, err := readAll(&b)
			if test.name == "length beyond the answer" && err == nil && b.next == 7 {
				return // behind a whole batch this is one that was cut off
			}
			if !errors.Is(err, ErrCorruptBatch) || len(got) < 3 || b.next != test.next {
				t.Errorf("behind whole batches: %v, error %v, next %d", summary(got), err, b.next)
			}
		})
	}
}

// TestBehindACorruptBatch wants a way on that gives up the batch and neither what is behind it nor,
// by going back, sends again what was read, though offset and length are not covered by the CRC.
func TestBehindACorruptBatch(t *testing.T) {
	edit := func(change func(batch []byte)) []byte {
		bad, good := simple(7, "a", "b"), simple(9, "c")
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
		{"nothing behind it", edit(func([]byte) {})[:len(simple(7, "a", "b"))], 9},
		{"length too small", edit(func(b []byte) { b[11]-- }), 9},
		{"length of nothing", edit(func(b []byte) { b[11] = 0 }), 8},
		{"last offset of all", edit(func(b []byte) { copy(b, "\x7f\xff\xff\xff\xff\xff\xff\xff") }), 8},
		{"offset far ahead", edit(func(b []byte) { b[1] = 1 }), 8},
		{"offset before", edit(func(b []byte) { b[7] = 0 }), 9},
	} {
		b := batches{data: test.data, next: 7}
		if _, err := readAll(&b); !errors.Is(err, ErrCorruptBatch) {
			t.Errorf("%s: error %v", test.name, err)
		}
		if got := b.behind(); got != test.want {
			t.Errorf("%s: on from %d, want %d", test.name, got, test.want)
		}
	}
}

// old is a message set of one message, of magic 0 or 1, with that offset.
func old(magic int8, offset int64, value string) []byte {
	var raw []byte
	if magic == 0 {
		raw = (&kmsg.MessageV0{Offset: offset, Magic: magic, Value: []byte(value)}).AppendTo(nil)
	} else {
		raw = (&kmsg.MessageV1{Offset: offset, Magic: magic, Value: []byte(value)}).AppendTo(nil)
	}
	binary.BigEndian.PutUint32(raw[8:], uint32(len(raw)-12))
	binary.BigEndian.PutUint32(raw[12:], crc32.ChecksumIEEE(raw[16:]))
	return raw
}

// TestOldMessageFormat wants adjacent old sets passed over together, and what is before and behind them.
func TestOldMessageFormat(t *testing.T) {
	for magic := range int8(2) {
		sets := slices.Concat(old(magic, 12345, "a"), old(1-magic, 12346, "b"), old(magic, 12349, "c")) // compaction has left a hole
		for name, test := range map[string]struct {
			data []byte
			next int64
			want []string
		}{
			"with a batch behind": {slices.Concat(sets, simple(12351, "behind")), 12351, []string{"12351 behind"}},
			"and none":            {sets, 12350, nil},
			"the last cut off":    {slices.Concat(sets, old(magic, 12350, "d")[:17]), 12351, nil},
			"all cut off":         {sets[:17], 12346, nil},
			"of no length":        {slices.Concat(sets[:8], make([]byte, 4), sets[12:]), 12346, nil},
		} {
			data := slices.Concat(simple(12344, "before"), test.data)
			b := batches{data: data, next: 12344}
			got, err := readAll(&b)
			if !errors.Is(err, ErrOldMessageFormat) || !strings.Contains(err.Error(), "12345") || !strings.Contains(err.Error(), fmt.Sprint("magic ", magic)) {
				t.Errorf("magic %d, %s: %v, want ErrOldMessageFormat with magic and offset", magic, name, err)
			}
			if diff := cmp.Diff([]string{"12344 before"}, summary(got)); diff != "" || b.next != 12345 || b.behind() != test.next {
				t.Errorf("magic %d, %s: next %d, behind %d, want 12345 and %d\n%s", magic, name, b.next, b.behind(), test.next, diff)
			}
			b.next = b.behind()
			got, err = readAll(&b)
			if diff := cmp.Diff(test.want, summary(got)); err != nil || diff != "" {
				t.Errorf("magic %d, %s: behind it %v\n%s", magic, name, err, diff)
			}
			if foreseen := behindBatches(data, 12344); foreseen > b.next {
				t.Errorf("magic %d, %s: %d is foreseen, but %d comes next", magic, name, foreseen, b.next)
			}
			// Sets before the offset that was asked for are no news.
			b = batches{data: test.data, next: test.next}
			if got, err := readAll(&b); err != nil || len(got) != len(test.want) {
				t.Errorf("magic %d, %s, asked for what is behind: %v, error %v", magic, name, summary(got), err)
			}
		}
	}
}
