package broker

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// maxResponse bounds the memory that one response can make us allocate, in bytes. The largest sensible
// response is a fetch of the bytes asked for plus one batch that is larger than that.
const maxResponse = 256 << 20

// ReadResponse reads the response to req, with its size and header, from r into *buf, and decodes it. The
// response must repeat the correlation id, which shows that the broker answers this request. The response
// points into *buf, which grows as needed.
func ReadResponse(r io.Reader, req kmsg.Request, correlationID int32, buf *[]byte) (kmsg.Response, error) {
	var head [8]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	size, err := responseSize(head[:], correlationID)
	if err != nil {
		return nil, err
	}
	body, err := readBody(r, buf, size)
	if err != nil {
		return nil, err
	}
	res := req.ResponseKind()
	res.SetVersion(req.GetVersion())
	if err := decodeResponse(res, body); err != nil {
		return nil, err
	}
	return res, nil
}

// responseSize checks the head of a response: the size, and the correlation id of the request. It returns the
// number of bytes after the head.
func responseSize(head []byte, correlationID int32) (int, error) {
	size := int32(binary.BigEndian.Uint32(head)) - 4
	if size < 0 || size > maxResponse {
		return 0, fmt.Errorf("response of %d bytes (at most %d)", size, maxResponse)
	}
	if got := int32(binary.BigEndian.Uint32(head[4:])); got != correlationID {
		return 0, fmt.Errorf("response to request %d, expected %d", got, correlationID)
	}
	return int(size), nil
}

// decodeResponse decodes what follows the head of a response into res, whose version is set.
func decodeResponse(res kmsg.Response, body []byte) (err error) {
	if res.IsFlexible() && res.Key() != int16(kmsg.ApiVersions) {
		if body, err = skipTags(body); err != nil {
			return err
		}
	}
	if res.Key() == int16(kmsg.Fetch) {
		if err := checkFetchCounts(body, res.GetVersion()); err != nil {
			return fmt.Errorf("decode response: %w", err)
		}
	}
	if err := res.ReadFrom(body); err != nil {
		return fmt.Errorf("decode response: %w", err)
	}
	return nil
}

// readBody reads n bytes into *buf. The buffer grows as the bytes arrive: a broker that announces a large
// response and sends nothing makes nobody allocate it.
func readBody(r io.Reader, buf *[]byte, n int) ([]byte, error) {
	const step = 4 << 20
	b := (*buf)[:0]
	for len(b) < n {
		part := min(n-len(b), max(step, cap(b)-len(b)))
		if cap(b)-len(b) < part {
			grown := make([]byte, len(b), max(len(b)+part, min(2*cap(b), n+n/8)))
			copy(grown, b)
			b = grown
		}
		if _, err := io.ReadFull(r, b[len(b):len(b)+part]); err != nil {
			return nil, err
		}
		b = b[:len(b)+part]
	}
	*buf = b
	return b, nil
}

// skipTags returns b without the tagged fields of a flexible response header (KIP-482) in front.
func skipTags(b []byte) ([]byte, error) {
	count, n := binary.Uvarint(b)
	if n <= 0 {
		return nil, io.ErrUnexpectedEOF
	}
	b = b[n:]
	for range count {
		_, n := binary.Uvarint(b)
		if n <= 0 {
			return nil, io.ErrUnexpectedEOF
		}
		size, m := binary.Uvarint(b[n:])
		if m <= 0 || size > uint64(len(b)) {
			return nil, io.ErrUnexpectedEOF
		}
		tag := n + m + int(size) //nolint:gosec // bounded by the length of b
		if tag > len(b) {
			return nil, io.ErrUnexpectedEOF
		}
		b = b[tag:]
	}
	return b, nil
}
