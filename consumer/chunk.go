package consumer

import (
	"cmp"
	"container/list"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"herald/consumer/batch"
)

// chunkBytes is what one fetch for a replay asks for.
const chunkBytes = 1 << 20

// chunk is a part of a log as a broker answered it.
type chunk struct {
	logID
	from    int64 // its first offset, or the one that was asked for if that is lower
	next    int64 // the offset behind it
	batches []byte
	aborted []kmsg.FetchResponseTopicPartitionAbortedTransaction
}

// chunks keeps what was read for replays, up to a number of bytes: clients who were cut off together
// come back one after the other and want the same. What was not asked for longest goes first.
type chunks struct {
	limit int

	mu    sync.Mutex
	bytes int
	logs  map[logID][]*list.Element // of *chunk, sorted by from
	used  *list.List                // the last one used in front
}

func newChunks(limit int) *chunks {
	return &chunks{limit: limit, logs: make(map[logID][]*list.Element), used: list.New()}
}

// find returns the chunk that holds the offset; nil if none does.
func (c *chunks) find(l logID, at int64) *chunk {
	c.mu.Lock()
	defer c.mu.Unlock()
	kept := c.logs[l]
	i, exact := c.search(kept, at)
	if !exact {
		i--
	}
	if i < 0 {
		return nil
	}
	found := kept[i].Value.(*chunk)
	if at >= found.next {
		return nil
	}
	c.used.MoveToFront(kept[i])
	return found
}

func (c *chunks) search(kept []*list.Element, at int64) (int, bool) {
	return slices.BinarySearchFunc(kept, at, func(e *list.Element, at int64) int { return cmp.Compare(e.Value.(*chunk).from, at) })
}

// add keeps a chunk, whose bytes are the cache's from now on.
func (c *chunks) add(k *chunk) {
	c.mu.Lock()
	defer c.mu.Unlock()
	kept := c.logs[k.logID]
	i, exact := c.search(kept, k.from)
	if exact || len(k.batches) > c.limit {
		return
	}
	c.logs[k.logID] = slices.Insert(kept, i, c.used.PushFront(k))
	c.bytes += len(k.batches)
	for c.bytes > c.limit {
		c.drop(c.used.Back())
	}
}

// missing returns about how many bytes the log has between the offset, which no chunk holds, and the
// next chunk, at most chunkBytes. What is in memory need not be read again with what is not.
func (c *chunks) missing(l logID, at int64) int32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	kept := c.logs[l]
	i, _ := c.search(kept, at)
	if i == len(kept) {
		return chunkBytes
	}
	behind := kept[i].Value.(*chunk)
	each := float64(len(behind.batches)) / float64(behind.next-behind.from)
	return int32(max(1, min(chunkBytes, each*float64(behind.from-at))))
}

// remove forgets a chunk that cannot be read.
func (c *chunks) remove(k *chunk) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.logs[k.logID] {
		if e.Value == k {
			c.drop(e)
			return
		}
	}
}

// drop is called with c.mu held.
func (c *chunks) drop(e *list.Element) {
	k := c.used.Remove(e).(*chunk)
	c.bytes -= len(k.batches)
	left := slices.DeleteFunc(c.logs[k.logID], func(o *list.Element) bool { return o == e })
	if len(left) == 0 {
		delete(c.logs, k.logID)
		return
	}
	c.logs[k.logID] = left
}

// chunkReader reads chunks of one log, from memory or from Kafka.
type chunkReader struct {
	zone
	consumer *Consumer
	chunks   *chunks // those of far replays are apart: they would drive out what the near ones share
	idle     int     // how often in a row Kafka had nothing to say

	follower  int32         // where the leader says that it is nearer to read (KIP-392); -1: at the leader
	atLeader  bool          // the follower was no good
	throttled time.Duration // by which a quota delays the next answer
}

func newChunkReader(c *Consumer, z zone) *chunkReader {
	return &chunkReader{zone: z, consumer: c, chunks: c.chunks[z.distance], follower: -1}
}

// find looks in memory, in that of the others too.
func (s *chunkReader) find(at int64) *chunk {
	if k := s.chunks.find(s.logID, at); k != nil {
		return k
	}
	return s.consumer.chunks[s.distance.other()].find(s.logID, at)
}

// remove forgets a chunk that cannot be read.
func (s *chunkReader) remove(k *chunk) {
	for _, kept := range s.consumer.chunks {
		kept.remove(k)
	}
}

// chunk returns a part of the log that begins at the offset or before it and reaches behind it; nil if
// there is none by now. All before end was read once: if the log does not hold it any more, that is an
// [*OutOfRangeError].
func (s *chunkReader) chunk(ctx context.Context, at, end int64) (*chunk, error) {
	if k := s.find(at); k != nil {
		s.consumer.metrics.cachedBytes.Add(float64(len(k.batches)))
		return k, nil
	}
	atFollower := s.follower >= 0
	k, err := s.fetch(ctx, at)
	if atFollower && ctx.Err() == nil && (err != nil || k == nil) {
		s.follower, s.atLeader = -1, true // it may be away, or lack what the leader has
		k, err = s.fetch(ctx, at)
	}
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return nil, err
	case k != nil:
		s.idle = 0
		s.consumer.scans.fetched(s.zone, k)
		s.chunks.add(k)
		return k, nil
	case s.throttled > 0:
		pause(ctx, s.throttled)
		return nil, nil //nolint:nilnil // nothing by now
	}
	if s.idle++; s.idle%3 == 0 {
		first, last, err := s.consumer.Range(ctx, s.Partition, s.topicID)
		if err != nil {
			return nil, err
		}
		if last < end {
			return nil, &OutOfRangeError{Position{s.Partition, at}, first, last}
		}
	}
	return nil, nil //nolint:nilnil // nothing by now
}

// fetch asks a broker; a nil chunk says that it had nothing to say by now, or where to ask.
func (s *chunkReader) fetch(ctx context.Context, at int64) (*chunk, error) {
	c := s.consumer
	broker, topicID, err := c.leader(s.Partition)
	if err != nil {
		return nil, err
	}
	if topicID != s.topicID {
		return nil, ErrRecreated
	}
	if s.follower >= 0 {
		broker = s.follower
	}
	if err := c.cluster.CheckAnswering(broker); err != nil {
		return nil, err
	}
	req := c.cfg.fetchOptions().newRequest(0, -1, fetchMaxWait) // no session
	if s.atLeader {
		req.Rack = ""
	}
	topic := kmsg.NewFetchRequestTopic()
	topic.TopicID = topicID
	topic.Partitions = append(topic.Partitions, newFetchPartition(s.ID, at, s.chunks.missing(s.logID, at)))
	req.Topics = append(req.Topics, topic)

	ctx, cancel := context.WithTimeout(ctx, fetchMaxWait+fetchSlack+s.throttled)
	defer cancel()
	buf, _ := c.buffers.Get().(*[]byte)
	if buf == nil {
		buf = new([]byte)
	}
	res, err := c.cluster.Request(ctx, broker, req, buf)
	if err != nil {
		c.doubt(s.Topic)
		return nil, err // buf may still be written to: it is not put back
	}
	defer c.buffers.Put(buf)
	fetched := res.(*kmsg.FetchResponse)
	s.throttled = throttle(fetched)
	if err := kerr.ErrorForCode(fetched.ErrorCode); err != nil {
		return nil, err
	}
	if len(fetched.Topics) != 1 || len(fetched.Topics[0].Partitions) != 1 {
		return nil, nil //nolint:nilnil // what a quota makes of an answer
	}
	return s.partition(ctx, at, &fetched.Topics[0].Partitions[0])
}

func (s *chunkReader) partition(ctx context.Context, at int64, part *kmsg.FetchResponseTopicPartition) (*chunk, error) {
	c := s.consumer
	err := kerr.ErrorForCode(part.ErrorCode)
	if errors.Is(err, kerr.OffsetOutOfRange) && s.follower < 0 {
		first, last, err := c.Range(ctx, s.Partition, s.topicID)
		if err != nil {
			return nil, err
		}
		return nil, &OutOfRangeError{Position{s.Partition, at}, first, last}
	}
	if err != nil {
		c.doubt(s.Topic)
		return nil, err
	}
	if part.PreferredReadReplica >= 0 && s.follower < 0 && !s.atLeader {
		s.follower = part.PreferredReadReplica
		return nil, nil //nolint:nilnil // to be asked there
	}
	c.metrics.replayBytes.Add(float64(len(part.RecordBatches)))
	k := &chunk{logID: s.logID, from: at, batches: slices.Clone(part.RecordBatches), aborted: part.AbortedTransactions}
	k.next = batch.EndOffset(k.batches, at)
	if k.next > at {
		k.from = batch.FirstOffset(part.RecordBatches, at)
	} else {
		if len(part.RecordBatches) == 0 {
			return nil, nil //nolint:nilnil // nothing by now
		}
		k.next = at + 1 // for whoever reads it to find out what is wrong with it
	}
	return k, nil
}
