package broker

import (
	"encoding/binary"
	"io"
	"math"
)

// The fewest bytes of the elements of the arrays in a response to a fetch, over all its versions.
const (
	leastTopic     = 3  // an empty name, no partitions, no tags
	leastPartition = 30 // v4, without records
	leastAborted   = 16
)

// checkFetchCounts returns an error if a response to a fetch claims more elements than its bytes can hold. For a
// count, kmsg allocates up to one element for each byte that is left, and a partition takes 170 bytes: one flipped bit
// in a response of 8 MiB could take 1.4 GB.
func checkFetchCounts(body []byte, version int16) error {
	r := &fetchSkimmer{rest: body, flexible: version >= 12}
	r.skip(4) // throttle time
	if version >= 7 {
		r.skip(2 + 4) // error, session
	}
	for range r.count(leastTopic) {
		if version >= 13 {
			r.skip(16) // id
		} else {
			r.skipName()
		}
		for range r.count(leastPartition) {
			r.skipPartition(version)
		}
		r.skipTags()
	}
	return r.err
}

func (r *fetchSkimmer) skipPartition(version int16) {
	r.skip(4 + 2 + 2*8) // partition, error, high watermark, last stable offset
	if version >= 5 {
		r.skip(8) // log start
	}
	for range r.count(leastAborted) {
		r.skip(2 * 8) // producer, first offset
		r.skipTags()
	}
	if version >= 11 {
		r.skip(4) // preferred replica
	}
	r.skip(r.count(1)) // records
	r.skipTags()
}

// fetchSkimmer passes over the fields of a response. After an error, all counts are 0.
type fetchSkimmer struct {
	rest     []byte
	flexible bool // the encoding of KIP-482: lengths are varints, and structures end with tags
	err      error
}

func (r *fetchSkimmer) skip(n int) {
	if n > len(r.rest) {
		r.fail()
		return
	}
	r.rest = r.rest[n:]
}

func (r *fetchSkimmer) fail() { r.rest, r.err = nil, io.ErrUnexpectedEOF }

// count reads the length of an array, or of bytes. Null counts as empty.
func (r *fetchSkimmer) count(least int) int {
	length, n := r.readLength()
	if n <= 0 || length > len(r.rest)/least {
		r.fail()
		return 0
	}
	r.rest = r.rest[n:]
	return max(0, length)
}

// readLength returns the length that comes next, and how many bytes it takes; 0 or less if it is not whole. A length
// below 0 is null.
func (r *fetchSkimmer) readLength() (length, n int) {
	if r.flexible {
		v, n := binary.Uvarint(r.rest)
		return int(min(v, math.MaxInt32)) - 1, n // any response is shorter than the bound
	}
	if len(r.rest) < 4 {
		return 0, 0
	}
	return int(int32(binary.BigEndian.Uint32(r.rest))), 4
}

func (r *fetchSkimmer) skipName() {
	if r.flexible {
		r.skip(r.count(1))
		return
	}
	if len(r.rest) < 2 {
		r.fail()
		return
	}
	r.skip(2 + int(max(0, int16(binary.BigEndian.Uint16(r.rest)))))
}

func (r *fetchSkimmer) skipTags() {
	if r.flexible && r.err == nil {
		r.rest, r.err = skipTags(r.rest)
	}
}
