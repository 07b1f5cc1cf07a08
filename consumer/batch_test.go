package consumer

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/segmentio/kafka-go/compress"
	"github.com/segmentio/kafka-go/compress/snappy"
	"github.com/twmb/franz-go/pkg/kgo"
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

// packing is one way to compress a batch.
type packing struct {
	name  string
	codec int16
	pack  func([]byte) []byte
}

func packings(tb testing.TB) []packing {
	tb.Helper()
	must := func(err error) {
		if err != nil {
			tb.Fatal(err)
		}
	}
	with := func(codec compress.Codec) func([]byte) []byte {
		return func(raw []byte) []byte {
			var b bytes.Buffer
			w := codec.NewWriter(&b)
			_, err := w.Write(raw)
			must(err)
			must(w.Close())
			return b.Bytes()
		}
	}
	list := []packing{
		{"none", 0, bytes.Clone},
		{"gzip", 1, func(raw []byte) []byte {
			var b bytes.Buffer
			w := gzip.NewWriter(&b) // the standard library's, which the decoder does not share
			_, err := w.Write(raw)
			must(err)
			must(w.Close())
			return b.Bytes()
		}},
		{"snappy raw", 2, with(&snappy.Codec{Framing: snappy.Unframed})},
		{"snappy xerial", 2, with(&snappy.Codec{Framing: snappy.Framed})}, // as the Java client writes it
		{"lz4", 3, with(&compress.Lz4Codec)},
		{"zstd", 4, with(&compress.ZstdCodec)},
	}
	for i, codec := range []kgo.CompressionCodec{kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression()} {
		c, err := kgo.DefaultCompressor(codec)
		must(err)
		list = append(list, packing{"franz-go's " + compress.Compression(i+1).String(), int16(i + 1), func(raw []byte) []byte {
			packed, used := c.Compress(new(bytes.Buffer), raw)
			if int16(used) != int16(i+1) {
				tb.Fatalf("compressed with codec %d, want %d", used, i+1)
			}
			return bytes.Clone(packed)
		}})
	}
	return list
}

// TestEveryCodec reads two batches of a codec, the second larger than any decoder's buffer.
func TestEveryCodec(t *testing.T) {
	large := strings.Repeat("0123456789abcdef", 20_000)
	for _, p := range packings(t) {
		t.Run(p.name, func(t *testing.T) {
			small := values("a", "b", "")
			big := values(large, "c", large)
			data := slices.Concat(
				makeBatch(recordBatch{FirstOffset: 40, Attributes: p.codec, Records: p.pack(appendRecords(small))}, small...),
				makeBatch(recordBatch{FirstOffset: 43, Attributes: p.codec, Records: p.pack(appendRecords(big))}, big...),
			)
			b := batches{data: data, next: 40}
			got, err := readAll(&b)
			if err != nil {
				t.Fatal(err)
			}
			want := []string{"40 a", "41 b", "42 ", "43 " + large, "44 c", "45 " + large}
			if diff := cmp.Diff(want, summary(got)); diff != "" || b.next != 46 {
				t.Errorf("next %d, want 46; %.500s", b.next, diff)
			}
		})
	}
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

// TestTruncatedCompression cuts the compressed records themselves, under a right CRC.
func TestTruncatedCompression(t *testing.T) {
	records := values(strings.Repeat("abcdefgh", 100), "b")
	for _, p := range packings(t) {
		t.Run(p.name, func(t *testing.T) {
			packed := p.pack(appendRecords(records))
			for cut := range packed {
				b := batches{data: makeBatch(recordBatch{Attributes: p.codec, Records: packed[:cut]}, records...)}
				got, err := readAll(&b)
				for _, r := range got {
					if want := records[r.Offset].Value; !bytes.Equal(r.Value, want) {
						t.Fatalf("cut at %d: record %d is %.50q", cut, r.Offset, r.Value)
					}
				}
				// Formats with a trailer may be whole without it, but then so are the records.
				if err == nil && len(got) != len(records) || err != nil && !errors.Is(err, ErrCorruptBatch) {
					t.Fatalf("cut at %d of %d: %d records, error %v", cut, len(packed), len(got), err)
				}
			}
		})
	}
}

func TestOldMessageFormat(t *testing.T) {
	for magic := range byte(2) {
		old := slices.Clone(simple(12345, "old"))
		old[16] = magic
		for name, data := range map[string][]byte{"whole": old, "cut off": old[:17]} {
			b := batches{data: slices.Concat(simple(12344, "new"), data), next: 12344}
			got, err := readAll(&b)
			if !errors.Is(err, ErrOldMessageFormat) || !strings.Contains(err.Error(), "12345") || !strings.Contains(err.Error(), fmt.Sprint("magic ", magic)) {
				t.Errorf("magic %d, %s: %v, want ErrOldMessageFormat with magic and offset", magic, name, err)
			}
			if len(got) != 1 || b.next != 12345 {
				t.Errorf("magic %d, %s: %v, next %d", magic, name, summary(got), b.next)
			}
		}
	}
}

// TestAbortedTransactions reads a log of interleaved transactions from each of its offsets. The
// broker's answer begins with the batch of the offset asked for and lists the aborted transactions
// that end behind it, in no order (KIP-98).
func TestAbortedTransactions(t *testing.T) {
	log := []struct {
		base int64
		data []byte
	}{
		{0, txn(0, 1, "aborted", "aborted")},
		{2, txn(2, 2, "p2 a", "p2 b")},
		{4, makeBatch(recordBatch{FirstOffset: 4, ProducerID: 1}, values("no transaction, for all its producer id")...)},
		{5, txn(5, 1, "aborted")},
		{6, marker(6, 1, false)},
		{7, txn(7, 1, "p1 a", "p1 b")},
		{9, marker(9, 2, true)},
		{10, marker(10, 1, true)},
		{11, txn(11, 3, "aborted", "aborted")},
		{13, txn(13, 1, "aborted")},
		{14, txn(14, 2, "p2 c")},
		{15, marker(15, 3, false)},
		{16, txn(16, 3, "aborted again")},
		{17, marker(17, 1, false)},
		{18, marker(18, 3, false)},
		{19, txn(19, 1, "p1 c")},
		{20, makeBatch(recordBatch{FirstOffset: 20, LastOffsetDelta: 1, ProducerID: 1, Attributes: attrTransaction})}, // emptied by compaction
		{22, marker(22, 1, true)},
		{23, simple(23, "no transaction")},
	}
	aborts := []struct{ producer, first, marker int64 }{{1, 0, 6}, {3, 11, 15}, {1, 13, 17}, {3, 16, 18}}
	committed := []int64{2, 3, 4, 7, 8, 14, 19, 23}
	var whole []byte
	for _, batch := range log {
		whole = append(whole, batch.data...)
	}
	for asked := range int64(24) {
		var data []byte
		for i := range log {
			if i == len(log)-1 || log[i+1].base > asked {
				data = append(data, log[i].data...)
			}
		}
		var all, list []abortedTxn
		for _, a := range aborts {
			all = append(all, abortedTxn{ProducerID: a.producer, FirstOffset: a.first})
			if a.marker >= asked {
				list = append(list, all[len(all)-1])
			}
		}
		reversed := slices.Clone(list)
		slices.Reverse(reversed)
		var want []int64
		for _, offset := range committed {
			if offset >= asked {
				want = append(want, offset)
			}
		}
		for name, b := range map[string]batches{
			"ascending list":         {data: data, next: asked, aborted: slices.Clone(list)},
			"descending list":        {data: data, next: asked, aborted: reversed},
			"more before than asked": {data: whole, next: asked, aborted: all},
		} {
			records, err := readAll(&b)
			var got []int64
			for _, r := range records {
				got = append(got, r.Offset)
				if strings.HasPrefix(string(r.Value), "aborted") {
					t.Errorf("offset %d, %s: an aborted record", asked, name)
				}
			}
			if diff := cmp.Diff(want, got); err != nil || diff != "" || b.next != 24 {
				t.Errorf("offset %d, %s: %v, next %d, want 24\n%s", asked, name, err, b.next, diff)
			}
		}
	}
}

// TestControlBatchesAreNoRecords wants nothing of control batches that are of unknown types or
// cannot be read: their content is the brokers' own.
func TestControlBatchesAreNoRecords(t *testing.T) {
	for name, body := range map[string][]byte{
		"a type of the future": appendRecords([]kmsg.Record{{Key: []byte{0, 9, 0, 9}}}),
		"null key":             appendRecords([]kmsg.Record{{}}),
		"short key":            appendRecords([]kmsg.Record{{Key: []byte{0, 0, 0}}}),
		"unreadable":           {0xff, 0xff},
		"nothing":              {},
	} {
		// Producer 1 has an aborted transaction, which no such batch ends.
		b := batches{aborted: []abortedTxn{{ProducerID: 1}}, data: slices.Concat(
			txn(0, 1, "aborted"),
			makeBatch(recordBatch{FirstOffset: 1, ProducerID: 1, NumRecords: 1, Attributes: attrControl | attrTransaction, Records: body}),
			txn(2, 1, "aborted"), simple(3, "x"),
		)}
		got, err := readAll(&b)
		if diff := cmp.Diff([]string{"3 x"}, summary(got)); err != nil || diff != "" || b.next != 4 {
			t.Errorf("%s: %v, next %d\n%s", name, err, b.next, diff)
		}
	}
}

// TestDecompressionBombs wants an error, and no memory in proportion to what a batch of some
// kilobytes claims to hold.
func TestDecompressionBombs(t *testing.T) {
	const (
		limit = 1 << 20
		most  = 32 << 20         // a buffer that doubles up to the limit, and the decoders' own
		zstd  = 512<<20 + 32<<20 // the decoder allocates a window, and takes them up to 512 MiB
	)
	xerial := []byte("\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01")
	frame := func(block []byte) []byte {
		return append(binary.BigEndian.AppendUint32(nil, uint32(len(block))), block...)
	}
	// repeated writes zeros until they are far beyond the limit.
	repeated := func(codec compress.Codec) []byte {
		var b bytes.Buffer
		w := codec.NewWriter(&b)
		chunk := make([]byte, limit)
		for range 64 {
			if _, err := w.Write(chunk); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	claims := binary.AppendUvarint(nil, math.MaxUint32) // a snappy block begins with its length
	for _, test := range []struct {
		name  string
		codec int16
		body  []byte
		most  uint64
	}{
		{"gzip", 1, repeated(&compress.GzipCodec), most},
		{"lz4", 3, repeated(&compress.Lz4Codec), most},
		{"zstd", 4, repeated(&compress.ZstdCodec), most},
		{"snappy xerial", 2, repeated(&compress.SnappyCodec), most},
		{"snappy raw that claims 4 GiB", 2, slices.Concat(claims, make([]byte, 64)), most},
		{"snappy block that claims 4 GiB", 2, slices.Concat(xerial, frame(slices.Concat(claims, make([]byte, 64)))), most},
		{"snappy frame that claims 4 GiB", 2, slices.Concat(xerial, []byte{0xff, 0xff, 0xff, 0xff}, make([]byte, 64)), most},
		// Magic, a header with a window of 1 << 41 bytes, and a last block of one repeated byte.
		{"zstd with a huge window", 4, []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xf8, 0x03 | 0x80, 0x00, 0x00, 0x00}, zstd},
		// A single segment of 32 GiB, which is its own window.
		{"zstd that claims 32 GiB", 4, []byte{0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 8, 0, 0, 0, 0x03 | 0x80, 0x00, 0x00, 0x00}, zstd},
		// The same with a window of 512 MiB, the most that the decoder takes.
		{"zstd with a large window", 4, []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 19 << 3, 0x03 | 0x80, 0x00, 0x00, 0x00}, zstd},
	} {
		t.Run(test.name, func(t *testing.T) {
			var before, after runtime.MemStats
			b := batches{data: makeBatch(recordBatch{Attributes: test.codec, Records: test.body, NumRecords: 1}), limit: limit}
			runtime.ReadMemStats(&before)
			_, err := readAll(&b)
			runtime.ReadMemStats(&after)
			if !errors.Is(err, ErrCorruptBatch) {
				t.Errorf("error %v", err)
			}
			if got := after.TotalAlloc - before.TotalAlloc; got > test.most {
				t.Errorf("%d MiB allocated for %d bytes", got>>20, len(test.body))
			}
		})
	}
}

// TestLargeBatchIsRead makes sure that the bound on decompression is not in the way of sizes that
// occur: a topic may allow larger batches than Kafka's default of 1 MiB.
func TestLargeBatchIsRead(t *testing.T) {
	records := values(strings.Repeat("x", 4<<20), strings.Repeat("y", 4<<20))
	for _, p := range packings(t) {
		b := batches{data: makeBatch(recordBatch{Attributes: p.codec, Records: p.pack(appendRecords(records))}, records...)}
		got, err := readAll(&b)
		if err != nil || len(got) != 2 || !bytes.Equal(got[0].Value, records[0].Value) || !bytes.Equal(got[1].Value, records[1].Value) {
			t.Errorf("%s: %d records, error %v", p.name, len(got), err)
		}
	}
}

// FuzzBatches gives the reader answers of which the CRCs are right, so that more than the CRC is
// tested. Whatever the answer: no panic, offsets ascend from the one asked for, next never goes
// back, and an answer that ends without an error is passed over as far as its batches are whole.
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
	f.Fuzz(func(t *testing.T, data []byte, asked, producer, first int64) {
		if asked < 0 {
			return // nobody asks for it
		}
		data = slices.Clone(data)
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
			end = max(end, rb.FirstOffset+int64(rb.LastOffsetDelta)+1)
			rest = rest[size:]
		}
		b := batches{data: data, next: asked, aborted: []abortedTxn{{ProducerID: producer, FirstOffset: first}}}
		defer b.close()
		last := asked - 1
		for {
			var rec Record
			before := b.next
			more, err := b.read(&rec)
			if b.next < before {
				t.Fatalf("next goes back from %d to %d", before, b.next)
			}
			if err != nil && !errors.Is(err, ErrCorruptBatch) && !errors.Is(err, ErrOldMessageFormat) {
				t.Fatalf("undocumented error %v", err)
			}
			if err == nil && !more && b.next < end {
				t.Fatalf("ends at %d before the end of the last whole batch, %d", b.next, end)
			}
			if behind := b.behind(); err != nil && b.next < math.MaxInt64 && (behind <= b.next || behind-b.next > maxBatchSize) {
				t.Fatalf("next is %d, and %d behind the error", b.next, behind)
			}
			if err != nil || !more {
				return
			}
			if rec.Offset <= last || b.next <= rec.Offset {
				t.Fatalf("record %d after %d, next %d", rec.Offset, last, b.next)
			}
			last = rec.Offset
		}
	})
}
