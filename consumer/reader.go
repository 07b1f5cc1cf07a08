package consumer

import (
	"context"
	"errors"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// DefaultSessionPartitions has 5,000 users' topics read over fewer than 20 connections.
const DefaultSessionPartitions = 300

const (
	userLinger   = 10 * time.Second // a user's topic is read after the last Leave
	fetchBackoff = 2 * time.Second  // at most, between fetches that fail
)

// feed is one partition being read.
type feed struct {
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

	// Guarded by reader.mu.
	shard     *shard // nil while no leader is known
	follower  int32  // the broker to read from in place of the leader (KIP-392); -1: none
	preferred time.Time
}

// preferFor is how long a follower is read before the leader is asked again which one is nearest.
const preferFor = 5 * time.Minute

func (f *feed) position() (next int64, moved time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.next, f.moved
}

func (f *feed) lag() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return max(0, f.end-f.next)
}

// shardKey says which partitions go together: those of topics that are always read never wait
// behind the coming and going of users' topics.
type shardKey struct {
	broker int32
	users  bool
}

// shard is a set of feeds with a goroutine and a fetch session of its own.
type shard struct {
	shardKey
	feeds   map[topicIDPartition]*feed // guarded by reader.mu
	changed bool                       // guarded by reader.mu: feeds is not what run has
	joined  time.Time                  // guarded by reader.mu: when a feed was added last
	wake    chan struct{}              // a feed was added
	scratch
}

// reader reads many partitions live.
//
// Lock order: feed.mu before reader.mu or Consumer.mu. None is held over a request to a broker.
type reader struct {
	consumer *Consumer
	aheads   atomic.Int32    // sessions that fetch ahead
	ctx      context.Context //nolint:containedctx // the life of the goroutines that add starts, not a request's
	wg       sync.WaitGroup

	stallAfter, userLinger time.Duration // but for tests they are the constants

	troubles troubles

	mu     sync.Mutex
	feeds  map[Partition]*feed
	shards map[shardKey][]*shard
}

func newReader(c *Consumer) *reader {
	return &reader{
		consumer: c, stallAfter: stallAfter, userLinger: userLinger,
		troubles: troubles{window: refusalsWindow, failing: make(map[int32]time.Time), refused: make(map[refusal]*refusals)},
		feeds:    make(map[Partition]*feed), shards: make(map[shardKey][]*shard),
	}
}

// assign puts the feed where its leader is, or the follower it prefers; with leader -1 it waits for
// the next metadata.
func (r *reader) assign(f *feed, leader int32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	broker := leader
	if leader >= 0 && f.follower >= 0 && time.Since(f.preferred) < preferFor {
		broker = f.follower
	}
	if r.feeds[f.Partition] != f || f.shard != nil && f.shard.broker == broker {
		return
	}
	r.detach(f)
	if broker < 0 {
		return
	}
	key := shardKey{broker, f.route.Kind == PerUser}
	var to *shard
	for _, s := range r.shards[key] {
		if len(s.feeds) < r.consumer.cfg.SessionPartitions {
			to = s
			break
		}
	}
	if to == nil {
		to = &shard{shardKey: key, feeds: make(map[topicIDPartition]*feed), wake: make(chan struct{}, 1)}
		r.shards[key] = append(r.shards[key], to)
		r.wg.Go(func() { r.run(to) })
	}
	f.shard = to
	to.feeds[topicIDPartition{f.topicID, f.ID}] = f
	to.changed, to.joined = true, time.Now()
	select {
	case to.wake <- struct{}{}:
	default:
	}
}

// detach takes the feed out of its shard. r.mu is held.
func (r *reader) detach(f *feed) {
	if f.shard != nil {
		delete(f.shard.feeds, topicIDPartition{f.topicID, f.ID})
		f.shard.changed = true
		f.shard = nil
	}
}

// park takes a feed that answers with errors out of its session, where it would make every fetch
// return at once, until the next metadata says where to read it.
func (r *reader) park(f *feed) {
	r.mu.Lock()
	r.detach(f)
	r.mu.Unlock()
	r.consumer.doubt(f.Topic)
}

// prefer reads the feed from a follower that its leader says is nearer.
func (r *reader) prefer(f *feed, follower int32) {
	r.mu.Lock()
	f.follower, f.preferred = follower, time.Now()
	r.mu.Unlock()
	r.assign(f, follower)
}

// forsake goes back to the leader. It returns false if the feed is read there.
func (r *reader) forsake(f *feed) bool {
	r.mu.Lock()
	was := f.follower >= 0
	f.follower = -1
	r.mu.Unlock()
	if was {
		r.park(f)
	}
	return was
}

func (r *reader) add(f *feed) {
	f.follower = -1
	r.mu.Lock()
	r.feeds[f.Partition] = f
	r.mu.Unlock()
}

// remove ends a feed. After it returns nothing more of the feed is delivered.
func (r *reader) remove(p Partition) {
	r.mu.Lock()
	f := r.feeds[p]
	delete(r.feeds, p)
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

func (r *reader) feed(p Partition) *feed {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.feeds[p]
}

// all returns the feeds that are read now.
func (r *reader) all() []*feed {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]*feed, 0, len(r.feeds))
	for _, f := range r.feeds {
		list = append(list, f)
	}
	return list
}

// positions yields the partitions that are read now, each with the offset to read next.
func (r *reader) positions(yield func(Partition, int64) bool) {
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
func (r *reader) places() map[int32]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	count := make(map[int32]int)
	for key, shards := range r.shards {
		for _, s := range shards {
			count[key.broker] += len(s.feeds)
		}
	}
	return count
}

// run fetches for one shard until the reader's context ends.
func (r *reader) run(s *shard) {
	const minBackoff = 50 * time.Millisecond
	session := newFetchSession(r.consumer.cluster, r.consumer.cfg.fetchOptions(), s.broker)
	backoff := minBackoff
	var feeds map[topicIDPartition]*feed
	want := make(map[topicIDPartition]int64)
	var asked *fetching // perhaps since before the last answer was delivered
	steady := true      // the last answer was what had been foreseen
	for r.ctx.Err() == nil {
		if asked == nil {
			r.alone(session)
			feeds = r.wanted(s, feeds, want)
			if len(feeds) == 0 {
				session.reset()
				select {
				case <-s.wake:
					continue
				case <-r.ctx.Done():
					return
				}
			}
			asked = r.fetch(s, session, want)
		}
		got, interrupted := r.await(s, asked)
		asked = nil
		if got.err == nil {
			backoff = minBackoff
			r.answered(s.broker)
			offsets, bulk := foresee(want, got.res)
			if bulk && steady && !r.changed(s) && r.ahead(session) {
				asked = r.fetch(s, session, want)
			}
			steady = r.deliver(s, feeds, got.res, offsets)
			continue
		}
		if r.ctx.Err() != nil {
			return
		}
		if interrupted || errors.Is(got.err, kerr.FetchSessionIDNotFound) || errors.Is(got.err, kerr.InvalidFetchSessionEpoch) {
			continue // begun anew by the next fetch
		}
		r.consumer.metrics.errors.WithLabelValues("fetch").Inc()
		var one Position
		for _, f := range feeds {
			one.Partition = f.Partition
			one.Offset, _ = f.position()
			break
		}
		r.failed(s.broker, 0, one, got.err)
		for _, f := range feeds {
			r.forsake(f)
			r.consumer.doubt(f.Topic)
		}
		pause(r.ctx, backoff)
		backoff = min(2*backoff, fetchBackoff)
	}
	if asked != nil {
		<-asked.answered
	}
}

func (r *reader) changed(s *shard) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return s.changed
}

// wanted returns the shard's feeds, which are those it was given unless they changed, and notes the
// offset to fetch of each in want.
func (r *reader) wanted(s *shard, feeds map[topicIDPartition]*feed, want map[topicIDPartition]int64) map[topicIDPartition]*feed {
	r.mu.Lock()
	if s.changed || feeds == nil {
		feeds, s.changed = maps.Clone(s.feeds), false
		clear(want)
	}
	r.mu.Unlock()
	for at, f := range feeds {
		f.mu.Lock()
		want[at] = f.next
		f.mu.Unlock()
	}
	return feeds
}
