package consumer

import (
	"errors"
	"maps"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// shardKey says which partitions may share a shard. Partitions of topics that are always read never wait for
// users' topics, which come and go.
type shardKey struct {
	broker int32
	users  bool // for users' own topics
}

// shard is a set of partitions of one broker that are read together.
type shard struct {
	shardKey
	wake chan struct{} // a partition was added

	// The lock of the liveReader guards the fields below.
	partitions map[topicIDPartition]*livePartition
	changed    bool      // partitions has changed since runShard copied it
	joined     time.Time // when a partition was last added
	turns      turnCount // of all answers so far, without shard and partitions

	// Only runShard uses the fields below.
	delivery
	session *fetchSession // nil before runShard
}

func newShard(key shardKey) *shard {
	return &shard{shardKey: key, wake: make(chan struct{}, 1), partitions: make(map[topicIDPartition]*livePartition)}
}

// runShard fetches the shard's partitions until the reader's context ends.
func (r *liveReader) runShard(s *shard) {
	const minBackoff = 50 * time.Millisecond
	session := newFetchSession(r.cluster, r.options, s.broker)
	s.session = session
	backoff := minBackoff
	var partitions map[topicIDPartition]*livePartition
	want := make(map[topicIDPartition]int64)
	var pending *pendingFetch // may have been sent before the last response was delivered
	steady := true            // the last response was as foreseen
	for r.ctx.Err() == nil {
		if pending == nil {
			r.stopFetchingAhead(session)
			partitions = r.updateWanted(s, session, partitions, want)
			if len(partitions) == 0 {
				session.reset()
				select {
				case <-s.wake:
					continue
				case <-r.ctx.Done():
					return
				}
			}
			pending = r.startFetch(s, session, want)
		}
		got, interrupted := r.awaitFetch(s, pending)
		pending = nil
		if got.err == nil {
			backoff = minBackoff
			r.brokerLog.recordAnswer(s.broker)
			asked, size := foresee(want, got.res)
			if size >= bulkBytes && steady && !r.hasChanged(s) && r.mayFetchAhead(session) {
				pending = r.startFetch(s, session, want)
			}
			steady = r.deliverResponse(s, partitions, got.res, asked)
			r.countAnswer(s, size, got.res)
			continue
		}
		if r.ctx.Err() != nil {
			return
		}
		if interrupted || hasLostSession(got.err) {
			continue // the next fetch begins a new session
		}
		r.failFetch(s, partitions, got.err)
		pause(r.ctx, backoff)
		backoff = min(2*backoff, fetchBackoff)
	}
	if pending != nil {
		<-pending.answered
	}
}

// hasLostSession reports whether the broker does not have the fetch session, or not with the topics named as they are
// now: by id, or by name.
func hasLostSession(err error) bool {
	return errors.Is(err, kerr.FetchSessionIDNotFound) || errors.Is(err, kerr.InvalidFetchSessionEpoch) || errors.Is(err, kerr.FetchSessionTopicIDError)
}

// failFetch counts and logs a failed fetch. The partitions return to their leaders, and the cluster is asked
// where these are.
func (r *liveReader) failFetch(s *shard, partitions map[topicIDPartition]*livePartition, err error) {
	r.metrics.errors.WithLabelValues(errorFetch).Inc()
	var example Position
	for _, p := range partitions {
		example.Partition = p.Partition
		example.Offset, _ = p.position()
		break
	}
	r.recordFailure(s.broker, 0, example, err)
	for _, p := range partitions {
		p.doubt()
		r.forsakeFollower(p)
		r.topics.doubt(p.Topic)
	}
}

func (r *liveReader) hasChanged(s *shard) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return s.changed
}

// updateWanted returns a copy of the shard's partitions; the given copy if they have not changed. It writes
// the offset to fetch of each partition into want, and describes changed partitions to the session.
func (r *liveReader) updateWanted(s *shard, session *fetchSession, partitions map[topicIDPartition]*livePartition, want map[topicIDPartition]int64) map[topicIDPartition]*livePartition {
	r.mu.Lock()
	if s.changed || partitions == nil {
		partitions, s.changed = maps.Clone(s.partitions), false
		clear(want)
		session.describe(partitions)
	}
	r.mu.Unlock()
	unanswered := false
	for key, p := range partitions {
		want[key] = p.fetchOffset()
		unanswered = unanswered || session.holds(key) && p.lacksWitness()
	}
	if unanswered {
		session.restart()
	}
	return partitions
}
