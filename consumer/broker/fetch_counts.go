package broker

import (
	"encoding/binary"
	"io"
)

// The fewest bytes of the elements of the arrays in a response to a fetch (v13).
const (
	leastTopic     = 18 // the id, no partitions, no tags
	leastPartition = 37
	leastAborted   = 17
)

// checkFetchCounts returns an error if a response to a fetch (v13) claims more elements than its bytes can hold. For a
// count, kmsg allocates up to one element for each byte that is left, and a partition takes 170 bytes: one flipped bit
// in a response of 8 MiB could take 1.4 GB.
func checkFetchCounts(body []byte) error {
	r := &fetchSkimmer{rest: body}
	r.skip(4 + 2 + 4) // throttle time, error, session
	for range r.count(leastTopic) {
		r.skip(16) // id
		for range r.count(leastPartition) {
			r.skip(4 + 2 + 3*8) // partition, error, high watermark, last stable offset, log start
			for range r.count(leastAborted) {
				r.skip(2 * 8) // producer, first offset
				r.skipTags()
			}
			r.skip(4) // preferred replica
			r.skip(r.count(1))
			r.skipTags()
		}
		r.skipTags()
	}
	return r.err
}

// fetchSkimmer passes over the fields of a flexible response (KIP-482). After an error, all counts are 0.
type fetchSkimmer struct {
	rest []byte
	err  error
}

func (r *fetchSkimmer) skip(n int) {
	if n > len(r.rest) {
		r.rest, r.err = nil, io.ErrUnexpectedEOF
		return
	}
	r.rest = r.rest[n:]
}

// count reads the length of an array, or of bytes. Null counts as empty.
func (r *fetchSkimmer) count(least int) int {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 || v > uint64(len(r.rest)/least)+1 { //nolint:gosec // a length is not negative
		r.rest, r.err = nil, io.ErrUnexpectedEOF
		return 0
	}
	r.rest = r.rest[n:]
	return max(0, int(v)-1) //nolint:gosec // bounded by the bytes
}

func (r *fetchSkimmer) skipTags() {
	if r.err == nil {
		r.rest, r.err = skipTags(r.rest)
	}
}
