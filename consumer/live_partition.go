package consumer

import (
	"sync"
	"time"
)

// livePartition is one partition being read.
type livePartition struct {
	Partition
	route   *Route
	owner   []byte // see Route.owner
	topicID [16]byte

	mu     sync.Mutex // held while records are delivered
	closed bool
	next   int64     // the offset to fetch next
	end    int64     // the end of the log as last heard of
	moved  time.Time // when next last changed
	tries  int       // how often the records at next could not be read
	failed string    // the error logged last

	// Guarded by liveReader.mu.
	shard     *shard // nil while no leader is known
	follower  int32  // the broker to read from in place of the leader (KIP-392); -1: none
	preferred time.Time
}

// preferFor is how long a follower is read before the leader is asked again which one is nearest.
const preferFor = 5 * time.Minute

func (f *livePartition) position() (next int64, moved time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.next, f.moved
}

func (f *livePartition) lag() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return max(0, f.end-f.next)
}
