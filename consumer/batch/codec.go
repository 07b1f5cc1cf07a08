package batch

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

// MaxSize is how many bytes one batch may decompress to. Kafka's default limit for a batch is 1 MiB
// compressed; MaxSize leaves two orders of magnitude for compression. It is also the largest window that
// a batch of zstd may have, because zstd's highest level has a window of this size.
const MaxSize = 128 << 20

// How many times their compressed size data can have at most. A batch that claims more is corrupt, and
// no memory is allocated for it.
const (
	snappyRatio = 32       // a copy of 64 bytes takes 3
	zstdRatio   = 32 << 10 // a block of 128 KiB takes 4 bytes
)

// bufferPool keeps the buffers that batches are decompressed into.
var bufferPool = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// releaseBuffer gives the buffer for decompression back to the pool, unless the buffer is large: a pool
// of large buffers would keep too much memory.
func (r *Reader) releaseBuffer() {
	if r.buffer == nil {
		return
	}
	if r.buffer.Cap() <= 4<<20 {
		bufferPool.Put(r.buffer)
	}
	r.buffer = nil
}

// decompress unpacks the records in raw into the body of the current batch.
func (r *Reader) decompress(raw []byte) error {
	codec := compress.Compression(r.base.attributes & attrCodecMask)
	if codec == compress.None {
		r.body = raw
		return nil
	}
	if int(codec) >= len(compress.Codecs) || compress.Codecs[codec] == nil {
		return fmt.Errorf("%w at offset %d: unknown compression %d", ErrCorrupt, r.base.offset, codec)
	}
	if r.buffer == nil {
		r.buffer = bufferPool.Get().(*bytes.Buffer)
	}
	r.buffer.Reset()
	limit := r.limit
	if limit == 0 {
		limit = MaxSize
	}
	var err error
	if codec == compress.Zstd {
		r.body, err = decompressZstd(r.buffer, raw, limit)
	} else {
		r.body, err = decompressStream(r.buffer, codec, raw, limit)
	}
	if err != nil {
		return fmt.Errorf("%w at offset %d: %s: %w", ErrCorrupt, r.base.offset, codec, err)
	}
	return nil
}

var errTooLarge = errors.New("more bytes decompressed than are allowed")

// decompressStream decompresses gzip, snappy or lz4 into to, up to limit bytes.
func decompressStream(to *bytes.Buffer, codec compress.Compression, raw []byte, limit int64) ([]byte, error) {
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

// zstdDecoder decompresses the batches of all readers, as many at a time as there are processors. It
// writes into the buffer that it is given, which is its window too, and never enlarges the buffer: it
// does not believe the size and the window that a frame claims.
var zstdDecoder = sync.OnceValue(func() *zstd.Decoder {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(MaxSize), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		panic(err) // an option is wrong
	}
	return d
})

// decompressZstd decompresses zstd into to, up to limit bytes. After any error it enlarges the buffer and
// tries again, up to the limit, because the decoder has several errors for a buffer that is too small.
func decompressZstd(to *bytes.Buffer, raw []byte, limit int64) ([]byte, error) {
	var h zstd.Header
	if err := h.Decode(raw); err != nil {
		return nil, err
	}
	limit = min(limit, zstdRatio*int64(len(raw)))
	size := int64(4 * len(raw)) // a guess, unless the frame has its size
	if h.HasFCS {
		size = int64(min(h.FrameContentSize, math.MaxInt64))
	}
	if h.HasFCS && size > limit || h.WindowSize > MaxSize {
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

// xerialMagic begins snappy blocks in the framing that Kafka's Java client writes. Other clients write
// one block without a frame.
var xerialMagic = []byte("\x82SNAPPY\x00")

const xerialHeaderSize = 16 // the magic and two versions

// snappySize returns how many bytes snappy data claims to decompress to, or the length that a frame claims
// if that is larger. The decoder believes both claims and allocates that much before it reads on.
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
