package consumer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"

	"github.com/klauspost/compress/zstd"
	"github.com/segmentio/kafka-go/compress"
)

// maxBatchSize bounds what one batch may decompress to, in bytes. Kafka's default limit for a
// batch is 1 MiB compressed; this leaves two orders of magnitude for compression. It is also the
// largest window of zstd that a batch may have, which is that of zstd's highest level.
const maxBatchSize = 128 << 20

// How many times its size compressed data can be at most: a batch that claims more is corrupt, and
// nothing is allocated for it.
const (
	snappyRatio = 32       // a copy of 64 bytes takes 3
	zstdRatio   = 32 << 10 // a block of 128 KiB takes 4 bytes
)

var scratchPool = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// close gives the buffer for decompression back. Records handed out before are invalid after it.
func (b *batches) close() {
	if b.scratch != nil {
		if b.scratch.Cap() <= 4<<20 {
			scratchPool.Put(b.scratch)
		}
		b.scratch = nil
	}
}

func (b *batches) decompress(raw []byte) error {
	codec := compress.Compression(b.base.attributes & attrCodecMask)
	if codec == compress.None {
		b.body = raw
		return nil
	}
	if int(codec) >= len(compress.Codecs) || compress.Codecs[codec] == nil {
		return fmt.Errorf("%w at offset %d: unknown compression %d", ErrCorruptBatch, b.base.offset, codec)
	}
	if b.scratch == nil {
		b.scratch = scratchPool.Get().(*bytes.Buffer)
	}
	b.scratch.Reset()
	limit := b.limit
	if limit == 0 {
		limit = maxBatchSize
	}
	var err error
	if codec == compress.Zstd {
		b.body, err = unzstd(b.scratch, raw, limit)
	} else {
		b.body, err = unpack(b.scratch, codec, raw, limit)
	}
	if err != nil {
		return fmt.Errorf("%w at offset %d: %s: %w", ErrCorruptBatch, b.base.offset, codec, err)
	}
	return nil
}

var errTooLarge = errors.New("more bytes decompressed than are allowed")

// unpack decompresses into to.
func unpack(to *bytes.Buffer, codec compress.Compression, raw []byte, limit int64) ([]byte, error) {
	if codec == compress.Snappy && snappySize(raw) > min(limit, snappyRatio*int64(len(raw))) {
		return nil, errTooLarge
	}
	r := codec.Codec().NewReader(bytes.NewReader(raw))
	n, err := to.ReadFrom(io.LimitReader(r, limit+1))
	_ = r.Close() // gives the decoder back to its pool; it has nothing to flush
	if err == nil && n > limit {
		err = errTooLarge
	}
	return to.Bytes(), err
}

// zstdDecoder is used for all batches, by as many goroutines at a time as there are processors. It
// writes to the buffer that it is given, which is its window too, and does not enlarge it: what a frame
// claims to hold, or to need as a window, is not believed.
var zstdDecoder = sync.OnceValue(func() *zstd.Decoder {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(maxBatchSize), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		panic(err) // an option is wrong
	}
	return d
})

// unzstd decompresses into to, which it enlarges until all of it fits: the decoder has several errors for
// a buffer that is too small.
func unzstd(to *bytes.Buffer, raw []byte, limit int64) ([]byte, error) {
	var h zstd.Header
	if err := h.Decode(raw); err != nil {
		return nil, err
	}
	limit = min(limit, zstdRatio*int64(len(raw)))
	size := int64(4 * len(raw)) // a guess, unless the frame tells
	if h.HasFCS {
		size = int64(min(h.FrameContentSize, math.MaxInt64))
	}
	if h.HasFCS && size > limit || h.WindowSize > maxBatchSize {
		return nil, errTooLarge
	}
	const least = 512 // doubled, 0 would stay 0
	for ; ; size = 2 * int64(to.Cap()) {
		to.Grow(int(min(max(size, least), limit)))
		room := to.AvailableBuffer()
		most := min(int64(cap(room)), limit)
		body, err := zstdDecoder().DecodeAll(raw, room[:0:most])
		if err == nil || most == limit {
			return body, err
		}
	}
}

// xerialMagic begins snappy blocks in the framing that Kafka's Java client writes; other clients
// write one block without a frame.
var xerialMagic = []byte("\x82SNAPPY\x00")

const xerialHeaderSize = 16 // the magic and two versions

// snappySize returns what snappy data claims to decompress to, or how long a frame claims to be if
// that is more. Both are believed by the decoder, which allocates as much before it reads on.
func snappySize(raw []byte) int64 {
	if !bytes.HasPrefix(raw, xerialMagic) {
		size, _ := binary.Uvarint(raw)
		return int64(min(size, math.MaxUint32))
	}
	total := int64(0)
	for raw = raw[min(xerialHeaderSize, len(raw)):]; len(raw) >= 4; {
		frame := int64(binary.BigEndian.Uint32(raw))
		raw = raw[4:]
		if frame > int64(len(raw)) {
			return max(total, frame)
		}
		size, _ := binary.Uvarint(raw[:frame])
		total += int64(min(size, math.MaxUint32))
		raw = raw[frame:]
	}
	return total
}
