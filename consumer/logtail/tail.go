package logtail

import (
	"hash/maphash"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// segmentSize is the most bytes of a segment. A larger record has a segment of its own.
	segmentSize = 256 << 10

	// bytesPerBucket is the fewest bytes of the limit for each bucket. A small record is about as large, so a
	// bucket has about one entry of the tail.
	bytesPerBucket = 128
)

// Tail keeps the newest records of many partitions. It is safe for concurrent use.
type Tail struct {
	limit       int // the most bytes of all segments
	segmentSize int
	seed        maphash.Seed

	readers atomic.Int32 // the number of calls of Read that may hold parts of segments

	mu       sync.RWMutex
	buckets  []address // the newest entry of each bucket; nil until the first record
	mask     uint64
	segments []*segment // from the oldest to the newest
	first    uint64     // the number of segments[0]; segments are numbered from 1
	bytes    int        // of all segments
	lastLog  uint32     // the number of the log that began last
	hashes   []uint64   // of the records that are being appended
	loaded   address    // keeps the compiler from leaving out the loads of loadBucketsLocked
}

// segment holds entries, one after another.
type segment struct {
	data  []byte // its capacity is fixed
	begun time.Time
	logs  []logEnd // the logs that have entries here
}

// logEnd is the end of a log's entries in a segment.
type logEnd struct {
	log    *Log
	number uint32 // the number of the log when it had the entries
	next   int64  // the offset after the log's last entry in the segment
}

// address is the place of an entry: the number of its segment and the position in the segment. Addresses
// ascend in the order in which entries are appended. An empty bucket has the address zero.
type address uint64

const positionBits = 20 // more than segmentSize needs; an entry of a larger segment is at position 0

func newAddress(segment uint64, position int) address {
	return address(segment<<positionBits | uint64(position)) //nolint:gosec // a position is not negative
}

func (a address) segment() uint64 { return uint64(a >> positionBits) }
func (a address) position() int   { return int(a & (1<<positionBits - 1)) }

// New returns an empty tail that takes up to limit bytes. It allocates them as records arrive.
func New(limit int) *Tail {
	t := &Tail{limit: limit, segmentSize: min(segmentSize, limit/8), seed: maphash.MakeSeed(), first: 1}
	buckets := uint64(1) << bits.Len(uint(max(limit, 0)/bytesPerBucket)/2)
	t.mask = buckets - 1
	t.limit -= int(buckets) * 8 //nolint:gosec // fewer than the bytes of the limit
	return t
}

// Limit returns how many bytes of records the tail holds at most.
func (t *Tail) Limit() int { return max(0, t.limit) }

// Age returns how long ago the oldest segment was begun. The tail holds the records read since then. Age
// returns 0 for an empty tail.
func (t *Tail) Age() time.Duration {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if len(t.segments) == 0 {
		return 0
	}
	return time.Since(t.segments[0].begun)
}

// Bytes returns how much memory the tail takes, in bytes.
func (t *Tail) Bytes() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.bytes + 8*len(t.buckets)
}

// Begin returns the log of a partition whose reading begins at the offset next.
func (t *Tail) Begin(next int64) *Log {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := &Log{tail: t}
	l.beginLocked(next)
	return l
}

// hash returns the hash of a user's entries in a log.
func (t *Tail) hash(log uint32, user []byte) uint64 {
	const odd = 0x9e3779b97f4a7c15 // 2^64 divided by the golden ratio
	return maphash.Bytes(t.seed, user) ^ uint64(log)*odd
}

// reserveLocked returns a segment with room for size bytes, and the segment's number. It returns nil if
// the tail cannot hold that much.
func (t *Tail) reserveLocked(size int) (*segment, uint64) {
	if n := len(t.segments); n > 0 {
		if last := t.segments[n-1]; cap(last.data) == t.segmentSize && t.segmentSize-len(last.data) >= size {
			return last, t.first + uint64(n) - 1
		}
	}
	size = max(size, t.segmentSize)
	if size > t.limit/2 {
		return nil, 0
	}
	if t.buckets == nil {
		t.buckets = make([]address, t.mask+1)
	}
	var data []byte
	for len(t.segments) > 0 && t.bytes+size > t.limit {
		data = t.dropOldestLocked()
	}
	if cap(data) < size {
		data = make([]byte, 0, size)
	}
	s := &segment{data: data[:0], begun: time.Now()}
	t.segments = append(t.segments, s)
	t.bytes += cap(s.data)
	return s, t.first + uint64(len(t.segments)) - 1
}

// dropOldestLocked drops the oldest segment. The logs with entries in it begin after these entries. It returns
// the segment's memory for the next segment; nil if a reader may still need the bytes, or if the segment was made
// for one large record.
func (t *Tail) dropOldestLocked() (free []byte) {
	s := t.segments[0]
	t.segments[0] = nil
	t.segments = t.segments[1:]
	t.first++
	t.bytes -= cap(s.data)
	for _, end := range s.logs {
		if end.log.number == end.number {
			end.log.from = max(end.log.from, end.next)
		}
	}
	if t.readers.Load() > 0 || cap(s.data) > t.segmentSize {
		return nil
	}
	return s.data
}

// entryLocked returns the entry at the address; nil if its segment was dropped.
func (t *Tail) entryLocked(a address) entry {
	n := a.segment()
	if n < t.first {
		return nil
	}
	return entry(t.segments[n-t.first].data[a.position():])
}
