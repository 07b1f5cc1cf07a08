package consumer

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// DefaultSessionPartitions has 5,000 users' topics read over fewer than 20 connections.
const DefaultSessionPartitions = 300

const (
	userLinger   = 10 * time.Second // a user's topic is read after the last Leave
	fetchBackoff = 2 * time.Second  // at most, between fetches that fail
)

// liveReader reads many partitions live.
//
// Lock order: livePartition.mu before liveReader.mu or Consumer.mu. None is held over a request to a broker.
type liveReader struct {
	consumer *Consumer
	aheads   atomic.Int32    // sessions that fetch ahead
	ctx      context.Context //nolint:containedctx // the life of the goroutines that add starts, not a request's
	wg       sync.WaitGroup

	stallAfter, userLinger time.Duration // but for tests they are the constants

	brokerLog brokerLog

	mu         sync.Mutex
	partitions map[Partition]*livePartition
	shards     map[shardKey][]*shard
}

func newLiveReader(c *Consumer) *liveReader {
	return &liveReader{
		consumer: c, stallAfter: stallAfter, userLinger: userLinger,
		brokerLog:  brokerLog{window: refusalsWindow, failing: make(map[int32]time.Time), refused: make(map[refusal]*refusals)},
		partitions: make(map[Partition]*livePartition), shards: make(map[shardKey][]*shard),
	}
}

// assign puts the partition where its leader is, or the follower it prefers; with leader -1 it waits for
// the next metadata.
func (r *liveReader) assign(f *livePartition, leader int32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	broker := leader
	if leader >= 0 && f.follower >= 0 && time.Since(f.preferred) < preferFor {
		broker = f.follower
	}
	if r.partitions[f.Partition] != f || f.shard != nil && f.shard.broker == broker {
		return
	}
	r.detach(f)
	if broker < 0 {
		return
	}
	key := shardKey{broker, f.route.Kind == PerUser}
	var to *shard
	for _, s := range r.shards[key] {
		if len(s.partitions) < r.consumer.cfg.SessionPartitions {
			to = s
			break
		}
	}
	if to == nil {
		to = &shard{shardKey: key, partitions: make(map[topicIDPartition]*livePartition), wake: make(chan struct{}, 1)}
		r.shards[key] = append(r.shards[key], to)
		r.wg.Go(func() { r.run(to) })
	}
	f.shard = to
	to.partitions[topicIDPartition{f.topicID, f.ID}] = f
	to.changed, to.joined = true, time.Now()
	select {
	case to.wake <- struct{}{}:
	default:
	}
}

// detach takes the partition out of its shard. r.mu is held.
func (r *liveReader) detach(f *livePartition) {
	if f.shard != nil {
		delete(f.shard.partitions, topicIDPartition{f.topicID, f.ID})
		f.shard.changed = true
		f.shard = nil
	}
}

// park takes a partition that answers with errors out of its session, where it would make every fetch
// return at once, until the next metadata says where to read it.
func (r *liveReader) park(f *livePartition) {
	r.mu.Lock()
	r.detach(f)
	r.mu.Unlock()
	r.consumer.doubt(f.Topic)
}

// prefer reads the partition from a follower that its leader says is nearer.
func (r *liveReader) prefer(f *livePartition, follower int32) {
	r.mu.Lock()
	f.follower, f.preferred = follower, time.Now()
	r.mu.Unlock()
	r.assign(f, follower)
}

// forsake goes back to the leader. It returns false if the partition is read there.
func (r *liveReader) forsake(f *livePartition) bool {
	r.mu.Lock()
	was := f.follower >= 0
	f.follower = -1
	r.mu.Unlock()
	if was {
		r.park(f)
	}
	return was
}

func (r *liveReader) add(f *livePartition) {
	f.follower = -1
	r.mu.Lock()
	r.partitions[f.Partition] = f
	r.mu.Unlock()
}

// remove ends a partition. After it returns nothing more of the partition is delivered.
func (r *liveReader) remove(p Partition) {
	r.mu.Lock()
	f := r.partitions[p]
	delete(r.partitions, p)
	if f != nil {
		r.detach(f)
	}
	r.mu.Unlock()
	if f != nil {
		f.mu.Lock()
		f.closed = true
		f.mu.Unlock()
	}
}

func (r *liveReader) find(p Partition) *livePartition {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.partitions[p]
}

// all returns the partitions that are read now.
func (r *liveReader) all() []*livePartition {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]*livePartition, 0, len(r.partitions))
	for _, f := range r.partitions {
		list = append(list, f)
	}
	return list
}

// positions yields the partitions that are read now, each with the offset to read next.
func (r *liveReader) positions(yield func(Partition, int64) bool) {
	for _, f := range r.all() {
		f.mu.Lock()
		next := f.next
		f.mu.Unlock()
		if !yield(f.Partition, next) {
			return
		}
	}
}

// places returns how many partitions are read from each broker.
func (r *liveReader) places() map[int32]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	count := make(map[int32]int)
	for key, shards := range r.shards {
		for _, s := range shards {
			count[key.broker] += len(s.partitions)
		}
	}
	return count
}
