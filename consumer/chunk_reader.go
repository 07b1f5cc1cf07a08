package consumer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"herald/consumer/batch"
	"herald/consumer/broker"
)

// chunkFetcher is shared by all chunkReaders. It has the way to the brokers, and the chunks in memory.
type chunkFetcher struct {
	cluster *broker.Cluster
	topics  *topicRegistry
	offsets *offsetFinder
	options fetchOptions
	cache   *chunkCache
	buffers sync.Pool // of *[]byte, for responses
	metrics *metrics

	fetched func(zone, *chunk) // called for each chunk read from Kafka; tests set it
}

func newChunkFetcher(cluster *broker.Cluster, topics *topicRegistry, offsets *offsetFinder, options fetchOptions, cacheBytes int, m *metrics) *chunkFetcher {
	return &chunkFetcher{
		cluster: cluster, topics: topics, offsets: offsets, options: options, metrics: m,
		cache:   newChunkCache(cacheBytes),
		fetched: func(zone, *chunk) {},
	}
}

// chunkReader reads the chunks of one log, from memory or from Kafka.
type chunkReader struct {
	zone
	*chunkFetcher
	idle int // how many times in a row Kafka had no records

	follower   int32         // the follower that the leader says is nearer (KIP-392); -1: read from the leader
	leaderOnly bool          // the follower failed
	jump       jump          // what one answer said and no other has confirmed
	sparse     bool          // the log lacks offsets, because compaction removed batches
	throttled  time.Duration // how long a quota delays the next response
	byName     bool          // the last answer has the name of the topic, not its id
}

func newChunkReader(f *chunkFetcher, z zone) *chunkReader {
	return &chunkReader{zone: z, chunkFetcher: f, follower: -1}
}

// read returns a chunk that holds the offset; nil if Kafka has no records at present. The log had all offsets
// before end when the replay was requested. If it ends before end now, it was cut, and the error is an
// [*OutOfRangeError].
func (r *chunkReader) read(ctx context.Context, offset, end int64) (*chunk, error) {
	if k := r.cache.findChunk(r.logID, offset); k != nil {
		r.metrics.cachedBytes.Add(float64(len(k.batches)))
		return k, nil
	}
	fromFollower := r.follower >= 0
	k, err := r.fetch(ctx, offset)
	if fromFollower && ctx.Err() == nil && (err != nil || k == nil) {
		r.follower, r.leaderOnly = -1, true // the follower may be down, or lack records that the leader has
		k, err = r.fetch(ctx, offset)
	}
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return nil, err
	case k != nil:
		r.idle = 0
		r.fetched(r.zone, k)
		if r.length == short { // the chunks of long ranges would take the place of chunks that short ranges share
			r.cache.addChunk(k)
		}
		return k, nil
	case r.throttled > 0:
		pause(ctx, r.throttled)
		return nil, nil //nolint:nilnil // no records at present
	}
	if r.idle++; r.idle%3 == 0 { // not each time, because the question is one more request
		start, logEnd, err := r.offsets.findRange(ctx, r.Partition, r.topicID)
		if err != nil {
			return nil, err
		}
		if logEnd < end {
			return nil, &OutOfRangeError{Position{r.Partition, offset}, start, logEnd}
		}
	}
	return nil, nil //nolint:nilnil // no records at present
}

// fetch asks a broker for a chunk. It returns a nil chunk if the broker has no records at present, or names a
// follower to ask.
func (r *chunkReader) fetch(ctx context.Context, offset int64) (*chunk, error) {
	at, err := r.topics.placeOf(r.Partition, r.topicID)
	if err != nil {
		return nil, err
	}
	from := at.leader
	if r.follower >= 0 {
		from = r.follower
	}
	if err := r.cluster.CheckAnswering(from); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, fetchMaxWait+fetchSlack+r.throttled)
	defer cancel()
	buf, _ := r.buffers.Get().(*[]byte)
	if buf == nil {
		buf = new([]byte)
	}
	res, err := r.cluster.Request(ctx, from, r.newRequest(at, offset), buf)
	if err != nil {
		r.topics.doubt(r.Topic)
		return nil, err // the request given up may still write to buf, so buf does not return to the pool
	}
	defer r.buffers.Put(buf)
	fetched := res.(*kmsg.FetchResponse)
	r.throttled = throttle(fetched)
	if err := kerr.ErrorForCode(fetched.ErrorCode); err != nil {
		return nil, err
	}
	if len(fetched.Topics) != 1 || len(fetched.Topics[0].Partitions) != 1 {
		return nil, nil //nolint:nilnil // a quota can empty a response
	}
	if topic := &fetched.Topics[0]; !isAbout(fetched, topic, r.Topic, at.fetchID) || topic.Partitions[0].Partition != r.ID {
		return nil, fmt.Errorf("fetch %s from broker %d: the answer is about partition %d of topic %q with id %x", r.Partition, from, topic.Partitions[0].Partition, topic.Topic, topic.TopicID)
	}
	part := &fetched.Topics[0].Partitions[0]
	r.byName = fetched.Version <= broker.FetchByName
	if r.byName && part.ErrorCode == 0 {
		end := part.HighWatermark
		if r.follower >= 0 { // it may not know yet what the leader knows
			end = endUnknown
		}
		if err := r.offsets.checkTopic(r.Partition, r.topicID, end); err != nil {
			return nil, err
		}
	}
	return r.newChunk(ctx, offset, part)
}

// newRequest returns a fetch without a session from the offset on.
func (r *chunkReader) newRequest(at place, offset int64) *kmsg.FetchRequest {
	req := r.options.newRequest(0, -1, fetchMaxWait)
	limitVersion(req, at.fetchID)
	if r.leaderOnly {
		req.Rack = ""
	}
	topic := kmsg.NewFetchRequestTopic()
	topic.Topic, topic.TopicID = r.Topic, at.fetchID
	topic.Partitions = append(topic.Partitions, newFetchPartition(r.ID, fetchPoint{offset, -1}, r.cache.estimateMissing(r.logID, offset)))
	req.Topics = append(req.Topics, topic)
	return req
}

// confirms does what livePartition.confirms does. But replays begin within batches, so an answer that begins before
// the offset needs no other that confirms it.
func (r *chunkReader) confirms(batches []byte, offset int64) bool {
	j := jump{offset, batch.BaseOffset(batches, offset)}
	if j.to <= offset || r.sparse {
		return true
	}
	confirmed := r.jump == j
	r.jump, r.sparse = j, confirmed
	return confirmed
}

// newChunk makes a chunk of a broker's response to a fetch from the offset on.
func (r *chunkReader) newChunk(ctx context.Context, offset int64, part *kmsg.FetchResponseTopicPartition) (*chunk, error) {
	err := kerr.ErrorForCode(part.ErrorCode)
	if errors.Is(err, kerr.OffsetOutOfRange) && r.follower < 0 {
		start, end, err := r.offsets.findRange(ctx, r.Partition, r.topicID)
		if err != nil {
			return nil, err
		}
		return nil, &OutOfRangeError{Position{r.Partition, offset}, start, end}
	}
	if err != nil {
		r.topics.doubt(r.Topic)
		return nil, err
	}
	if r.follower < 0 && !r.leaderOnly && r.cluster.Lists(part.PreferredReadReplica) {
		r.follower = part.PreferredReadReplica
		return nil, nil //nolint:nilnil // ask the follower
	}
	r.metrics.replayBytes.Add(float64(len(part.RecordBatches)))
	if len(part.RecordBatches) == 0 || !r.confirms(part.RecordBatches, offset) {
		return nil, nil //nolint:nilnil // no records at present, or the next answer must confirm their offsets
	}
	k := &chunk{logID: r.logID, from: offset, batches: slices.Clone(part.RecordBatches), aborted: part.AbortedTransactions}
	k.next = batch.EndOffset(k.batches, offset)
	if k.next > offset {
		k.from = batch.FirstOffset(part.RecordBatches, offset)
		return k, nil
	}
	k.next = offset + 1 // reading the chunk returns the error
	return k, nil
}
