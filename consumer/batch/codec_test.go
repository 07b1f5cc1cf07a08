package batch

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/segmentio/kafka-go/compress"
	"github.com/segmentio/kafka-go/compress/snappy"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"herald/consumer/batch/batchtest"
)

// packing is a way to compress a batch.
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
			w := gzip.NewWriter(&b) // the decoder is not the standard library's
			_, err := w.Write(raw)
			must(err)
			must(w.Close())
			return b.Bytes()
		}},
		{"snappy raw", 2, with(&snappy.Codec{Framing: snappy.Unframed})},
		{"snappy xerial", 2, with(&snappy.Codec{Framing: snappy.Framed})}, // the framing of the Java client
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

// TestRecordsOfEveryCodecAreRead checks two batches of each codec. The second batch is larger than the
// buffer of any decoder.
func TestRecordsOfEveryCodecAreRead(t *testing.T) {
	large := strings.Repeat("0123456789abcdef", 20_000)
	for _, p := range packings(t) {
		t.Run(p.name, func(t *testing.T) {
			small := batchtest.Values("a", "b", "")
			big := batchtest.Values(large, "c", large)
			data := slices.Concat(
				batchtest.Make(kmsg.RecordBatch{FirstOffset: 40, Attributes: p.codec, Records: p.pack(batchtest.AppendRecords(small))}, small...),
				batchtest.Make(kmsg.RecordBatch{FirstOffset: 43, Attributes: p.codec, Records: p.pack(batchtest.AppendRecords(big))}, big...),
			)
			r := readerOf(t, data, 40)
			got, err := readAll(r)
			if err != nil {
				t.Fatal(err)
			}
			want := []string{"40 a", "41 b", "42 ", "43 " + large, "44 c", "45 " + large}
			if diff := cmp.Diff(want, summary(got)); diff != "" || r.next != 46 {
				t.Errorf("next offset %d, want 46; records (-want +got):\n%.500s", r.next, diff)
			}
		})
	}
}

// TestTruncatedCompressionIsCorrupt cuts the compressed records of a batch whose CRC is right, and checks
// that the reader returns ErrCorrupt and no wrong record.
func TestTruncatedCompressionIsCorrupt(t *testing.T) {
	records := batchtest.Values(strings.Repeat("abcdefgh", 100), "b")
	for _, p := range packings(t) {
		t.Run(p.name, func(t *testing.T) {
			packed := p.pack(batchtest.AppendRecords(records))
			for cut := range packed {
				r := readerOf(t, batchtest.Make(kmsg.RecordBatch{Attributes: p.codec, Records: packed[:cut]}, records...), 0)
				got, err := readAll(r)
				for _, rec := range got {
					if want := records[rec.Offset].Value; !bytes.Equal(rec.Value, want) {
						t.Fatalf("cut at %d: record %d is %.50q", cut, rec.Offset, rec.Value)
					}
				}
				// A format with a trailer may decompress without the trailer; then the reader must return all records.
				if err == nil && len(got) != len(records) || err != nil && !errors.Is(err, ErrCorrupt) {
					t.Fatalf("cut at %d of %d: %d records, error %v", cut, len(packed), len(got), err)
				}
			}
		})
	}
}

// bombLimit is the size that a batch may decompress to in the tests of bombs that are real.
const bombLimit = 1 << 20

// repeated compresses 64 times as many zeros as bombLimit allows.
func repeated(t *testing.T, codec compress.Codec) []byte {
	t.Helper()
	var b bytes.Buffer
	w := codec.NewWriter(&b)
	chunk := make([]byte, bombLimit)
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

// bomb is the body of a batch that decompresses, or claims to decompress, to much more than its size.
type bomb struct {
	name  string
	codec int16
	body  []byte
	limit int64  // zero: MaxSize
	most  uint64 // the memory that the reader may allocate
}

// bombs returns bombs of all codecs.
func bombs(t *testing.T) []bomb {
	t.Helper()
	xerial := []byte("\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01")
	frame := func(block []byte) []byte {
		return append(binary.BigEndian.AppendUint32(nil, uint32(len(block))), block...)
	}
	claims := func(size uint64) []byte { return binary.AppendUvarint(nil, size) } // a snappy block begins with its size
	// An lz4 frame with blocks of up to 4 MiB; its header ends with a checksum.
	lz4Header := []byte{0x04, 0x22, 0x4d, 0x18, 0x40, 0x70, 0xdf}
	zstdFrame := func(header ...byte) []byte { // its last block is one repeated byte
		return slices.Concat([]byte{0x28, 0xb5, 0x2f, 0xfd}, header, []byte{0x03 | 0x80, 0x00, 0x00, 0x00})
	}
	single := zstdFrame(0xe0, 0, 0, 0, 0, 8, 0, 0, 0) // a single segment of 32 GiB, which is its window too
	return []bomb{
		// The buffer doubles up to the limit. The decoders have buffers too, which are not always used
		// again under the race detector.
		{"gzip", 1, repeated(t, &compress.GzipCodec), bombLimit, 12 << 20},
		{"lz4", 3, repeated(t, &compress.Lz4Codec), bombLimit, 24 << 20},
		{"zstd", 4, repeated(t, &compress.ZstdCodec), bombLimit, 12 << 20},
		{"snappy xerial", 2, repeated(t, &compress.SnappyCodec), bombLimit, 1 << 20},
		{"snappy raw that claims 4 GiB", 2, slices.Concat(claims(math.MaxUint32), make([]byte, 64)), 0, 1 << 20},
		{"snappy raw that claims 64 MiB", 2, slices.Concat(claims(64<<20), make([]byte, 64)), 0, 1 << 20},
		{"snappy block that claims 4 GiB", 2, slices.Concat(xerial, frame(slices.Concat(claims(math.MaxUint32), make([]byte, 64)))), 0, 1 << 20},
		{"snappy frame that claims 4 GiB", 2, slices.Concat(xerial, []byte{0xff, 0xff, 0xff, 0xff}, make([]byte, 64)), 0, 1 << 20},
		{"lz4 block that claims 4 MiB", 3, slices.Concat(lz4Header, []byte{0, 0, 0x40, 0, 0xff}), 0, 16 << 20},
		{"lz4 of the legacy format", 3, []byte{0x02, 0x21, 0x4c, 0x18, 0, 0, 0x40, 0, 0xff}, 0, 32 << 20},
		{"zstd with a window of 2 TiB", 4, zstdFrame(0x00, 0xf8), 0, 2 << 20},
		{"zstd with a window of 512 MiB", 4, zstdFrame(0x00, 19<<3), 0, 2 << 20},
		{"zstd with a window of 128 MiB", 4, zstdFrame(0x00, 17<<3), 0, 2 << 20},
		{"zstd that claims 32 GiB", 4, single, 0, 2 << 20},
		{"zstd that claims no size", 4, zstdFrame(0x20, 0), 0, 2 << 20},
		{"zstd that claims 32 GiB in its second frame", 4, slices.Concat(zstdFrame(0x20, 0), single), 0, 6 << 20},
	}
}

// TestDecompressionBombsAreRefused checks batches of some kilobytes that decompress, or claim to
// decompress, to much more. The reader returns an error and does not allocate memory for the claim.
func TestDecompressionBombsAreRefused(t *testing.T) {
	for _, test := range bombs(t) {
		t.Run(test.name, func(t *testing.T) {
			r := readerOf(t, batchtest.Make(kmsg.RecordBatch{Attributes: test.codec, Records: test.body, NumRecords: 1}), 0)
			r.limit, r.buffer = test.limit, new(bytes.Buffer)
			before := allocated()
			_, err := readAll(r)
			got := allocated() - before
			if !errors.Is(err, ErrCorrupt) {
				t.Errorf("error %v, want ErrCorrupt", err)
			}
			t.Logf("%d KiB allocated for %d bytes: %v", got>>10, len(test.body), err)
			if got > test.most {
				t.Errorf("%d KiB allocated for %d bytes, want at most %d KiB", got>>10, len(test.body), test.most>>10)
			}
		})
	}
}

// TestLargeBatchIsRead checks that the reader reads a batch of 8 MiB: a topic may allow larger batches than
// Kafka's default of 1 MiB, and the bound on decompression does not refuse them.
func TestLargeBatchIsRead(t *testing.T) {
	records := batchtest.Values(strings.Repeat("x", 4<<20), strings.Repeat("y", 4<<20))
	for _, p := range packings(t) {
		r := readerOf(t, batchtest.Make(kmsg.RecordBatch{Attributes: p.codec, Records: p.pack(batchtest.AppendRecords(records))}, records...), 0)
		got, err := readAll(r)
		if err != nil || len(got) != 2 || !bytes.Equal(got[0].Value, records[0].Value) || !bytes.Equal(got[1].Value, records[1].Value) {
			t.Errorf("%s: the reader returned %d records and error %v, want both records", p.name, len(got), err)
		}
	}
}
