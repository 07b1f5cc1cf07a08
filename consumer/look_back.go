package consumer

import (
	"time"

	"herald/consumer/broker"
)

// lookBackRecordBytes is the size of a record in the tail, which lookBack assumes.
const lookBackRecordBytes = 256

// lookBackTime is how long live reading may look back. The partition's live records wait meanwhile.
const lookBackTime = 2 * time.Second

// lookBack returns how many offsets before the end of a log live reading begins. These records fill the tail, so
// that clients that return after a restart of this replica find their records in memory. All partitions that are
// always read share the memory. Partitions of users' topics, and partitions that are read from their start, get
// no look-back.
func (r *liveReader) lookBack(start *pendingStart) int64 {
	if start.startAt != broker.LatestOffset {
		return 0
	}
	witness := int64(0) // see recreation.go
	if IsLocalID(start.fetchID) {
		witness = 1
	}
	if start.topic.route.Kind == PerUser {
		return witness
	}
	return max(witness, int64(r.tail.Limit()/lookBackRecordBytes/max(1, r.topics.countAlwaysRead())))
}

// looksBack reports whether the records that are fetched next are for the tail alone.
func (p *livePartition) looksBack() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.next < p.liveFrom
}

// shortenLookBack leaves out records before liveFrom if reading them takes too long, because the records are large or
// Kafka is slow. After half of lookBackTime, live reading skips to the newest records before liveFrom: half as many
// as it has read so far, because these take a quarter of lookBackTime at the same speed. After lookBackTime, live
// reading skips to liveFrom. It returns false if live reading skips nothing.
func (r *liveReader) shortenLookBack(p *livePartition) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.next >= p.liveFrom {
		return false
	}
	to := p.liveFrom
	switch spent := time.Since(p.added); {
	case spent < r.lookBackTime/2:
		return false
	case spent < r.lookBackTime:
		to -= (p.next - p.first) / 2
	}
	if to <= p.next {
		return false
	}
	p.tail.Restart(to)
	p.next, p.moved = to, time.Now()
	return true
}
