package consumer

import (
	"errors"
	"maps"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// shardKey says which partitions go together: those of topics that are always read never wait
// behind the coming and going of users' topics.
type shardKey struct {
	broker int32
	users  bool
}

// shard is a set of partitions with a goroutine and a fetch session of its own.
type shard struct {
	shardKey
	partitions map[topicIDPartition]*livePartition // guarded by liveReader.mu
	changed    bool                                // guarded by liveReader.mu: partitions is not what run has
	joined     time.Time                           // guarded by liveReader.mu: when a partition was added last
	wake       chan struct{}                       // a partition was added
	scratch
}

// run fetches for one shard until the reader's context ends.
func (r *liveReader) run(s *shard) {
	const minBackoff = 50 * time.Millisecond
	session := newFetchSession(r.consumer.cluster, r.consumer.cfg.fetchOptions(), s.broker)
	backoff := minBackoff
	var partitions map[topicIDPartition]*livePartition
	want := make(map[topicIDPartition]int64)
	var asked *fetching // perhaps since before the last answer was delivered
	steady := true      // the last answer was what had been foreseen
	for r.ctx.Err() == nil {
		if asked == nil {
			r.alone(session)
			partitions = r.wanted(s, partitions, want)
			if len(partitions) == 0 {
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
			steady = r.deliver(s, partitions, got.res, offsets)
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
		for _, f := range partitions {
			one.Partition = f.Partition
			one.Offset, _ = f.position()
			break
		}
		r.failed(s.broker, 0, one, got.err)
		for _, f := range partitions {
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

func (r *liveReader) changed(s *shard) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return s.changed
}

// wanted returns the shard's partitions, which are those it was given unless they changed, and notes the
// offset to fetch of each in want.
func (r *liveReader) wanted(s *shard, partitions map[topicIDPartition]*livePartition, want map[topicIDPartition]int64) map[topicIDPartition]*livePartition {
	r.mu.Lock()
	if s.changed || partitions == nil {
		partitions, s.changed = maps.Clone(s.partitions), false
		clear(want)
	}
	r.mu.Unlock()
	for at, f := range partitions {
		f.mu.Lock()
		want[at] = f.next
		f.mu.Unlock()
	}
	return partitions
}
