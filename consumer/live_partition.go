package consumer

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"herald/consumer/batch"
	"herald/consumer/logtail"
)

// livePartition is a partition that is being read live.
type livePartition struct {
	Partition
	route   *Route
	owner   []byte // the user of a per-user topic, see [Route.owner]
	topicID [16]byte
	tail    *logtail.Log // the newest records, for replays
	added   time.Time    // when live reading began
	first   int64        // the offset at which live reading began: liveFrom, or before it

	ownerless *ownerlessRecords  // of the topic; nil: its records always have an owner
	filtered  prometheus.Counter // counts the records that the route leaves out; nil if the route has no condition
	decoding  *decoding          // of the topic; nil: clients get values as they are
	schemas   *schemaWait        // nil: clients get values as they are

	// See [Consumer.IsCurrent].
	end   atomic.Int64 // the end of the log, to which live reading has come; or endUnknown
	endAt atomic.Int64 // when a broker last answered that the log ends there, in Unix nanoseconds

	// See recreation.go.
	byName  atomic.Bool   // the partition is fetched by the name of its topic
	doubts  atomic.Uint32 // how many events there were after which the topic may be another one
	settled atomic.Uint32 // how many of them an answer has explained

	mu       sync.Mutex // held while records are delivered
	closed   bool
	liveFrom int64     // the sink gets the records from this offset on; earlier records are for the tail alone
	next     int64     // the offset to fetch next
	logStart int64     // the start of the log as the broker last reported it
	logEnd   int64     // the end of the log as the broker last reported it
	moved    time.Time // when next last changed
	attempts int       // how often the records at next could not be read
	jump     jump      // what one answer said and no other has confirmed
	sparse   bool      // the log lacks offsets, because compaction removed batches
	failed   string    // the last error logged

	// See recreation.go.
	witness   witness
	epochSeen int32 // the highest epoch of a leader that has answered; -1: none is known
	gone      bool  // a leader has answered that the partition does not exist
	denials   int   // how many answers in a row were of another topic

	// The lock of the liveReader guards the fields below.
	shard     *shard    // nil while the partition has no leader, waits for a schema, or after an error
	fetchID   [16]byte  // see place
	epoch     int32     // see place
	follower  int32     // the broker to read from instead of the leader (KIP-392); -1: none
	preferred time.Time // when the leader named the follower
}

// jump is an answer to a fetch from one offset whose first batch begins at another.
type jump struct{ from, to int64 }

// confirms reports whether the answer may be read: its first batch begins at the next offset, or the answer before
// it began at the same other offset. No checksum covers the offset of a batch, and a wrong one would lose records or
// deliver them twice. Live reading reads whole batches, so this costs one more fetch where it begins within a batch,
// and where a log first lacks offsets.
func (p *livePartition) confirms(batches []byte) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	j := jump{p.next, batch.BaseOffset(batches, p.next)}
	if j.to == p.next || j.to > p.next && p.sparse {
		return true
	}
	confirmed := p.jump == j
	p.jump = j
	p.sparse = p.sparse || confirmed && j.to > j.from
	return confirmed
}

// preferFor is how long a follower is read before the leader is asked again for the nearest replica.
const preferFor = 5 * time.Minute

func (p *livePartition) position() (next int64, moved time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.next, p.moved
}

func (p *livePartition) lag() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return max(0, p.logEnd-p.next)
}

// gapLocked returns the gap that the sink gets if reading continues at the offset to. ok is false if there is no
// gap, because the records left out are for the tail alone.
func (p *livePartition) gapLocked(to int64, reason GapReason) (gap Gap, ok bool) {
	return Gap{From: max(p.next, p.liveFrom), To: to, Reason: reason}, to < p.next || to > p.liveFrom
}
