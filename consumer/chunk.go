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
)

// chunkBytes is what one fetch for a replay asks for.
const chunkBytes = 1 << 20

// chunk is a part of a log as a broker answered it.
type chunk struct {
	log
	from    int64 // the offset that was asked for
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
	logs  map[log][]*list.Element // of *chunk, sorted by from
	used  *list.List              // the last one used in front
}

func newChunks(limit int) *chunks {
	return &chunks{limit: limit, logs: make(map[log][]*list.Element), used: list.New()}
}

// find returns the chunk that holds the offset; nil if none does.
func (c *chunks) find(l log, at int64) *chunk {
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
	kept := c.logs[k.log]
	i, exact := c.search(kept, k.from)
	if exact || len(k.batches) > c.limit {
		return
	}
	c.logs[k.log] = slices.Insert(kept, i, c.used.PushFront(k))
	c.bytes += len(k.batches)
	for c.bytes > c.limit {
		c.drop(c.used.Back())
	}
}

// remove forgets a chunk that cannot be read.
func (c *chunks) remove(k *chunk) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.logs[k.log] {
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
	left := slices.DeleteFunc(c.logs[k.log], func(o *list.Element) bool { return o == e })
	if len(left) == 0 {
		delete(c.logs, k.log)
		return
	}
	c.logs[k.log] = left
}

// source reads chunks of one log, from the cache or from Kafka.
type source struct {
	consumer *Consumer
	log

	follower  int32         // where the leader says that it is nearer to read (KIP-392); -1: at the leader
	atLeader  bool          // the follower was no good
	throttled time.Duration // by which a quota delays the next answer
}

func newSource(c *Consumer, l log) *source { return &source{consumer: c, log: l, follower: -1} }

// chunk returns a part of the log that begins at the offset or before it and reaches behind it. All
// before end was read once: if the log does not hold it any more, that is an [*OutOfRangeError].
func (s *source) chunk(ctx context.Context, at, end int64) (*chunk, error) {
	if k := s.consumer.chunks.find(s.log, at); k != nil {
		s.consumer.metrics.cachedBytes.Add(float64(len(k.batches)))
		return k, nil
	}
	for idle := 1; ; idle++ {
		near := s.follower >= 0
		k, err := s.fetch(ctx, at)
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case near && (err != nil || k == nil):
			s.follower, s.atLeader = -1, true // it may be away, or lack what the leader has
			continue
		case err != nil:
			return nil, err
		case k != nil:
			s.consumer.chunks.add(k)
			return k, nil
		case s.throttled > 0:
			pause(ctx, s.throttled)
		case idle%3 == 0:
			first, last, err := s.consumer.Range(ctx, s.Partition, s.topicID)
			if err != nil {
				return nil, err
			}
			if last < end {
				return nil, &OutOfRangeError{Position{s.Partition, at}, first, last}
			}
		}
	}
}

// fetch asks a broker; a nil chunk says that it had nothing to say by now, or where to ask.
func (s *source) fetch(ctx context.Context, at int64) (*chunk, error) {
	c := s.consumer
	broker, topicID, err := c.leader(s.Partition)
	if err != nil {
		return nil, err
	}
	if topicID != s.topicID {
		return nil, ErrRecreated
	}
	req := c.fetchRequest(0, -1, fetchMaxWait) // no session
	if s.follower >= 0 {
		broker = s.follower
	}
	if s.atLeader {
		req.Rack = ""
	}
	topic := kmsg.NewFetchRequestTopic()
	topic.TopicID = topicID
	topic.Partitions = append(topic.Partitions, fetchPartition(s.ID, at, chunkBytes))
	req.Topics = append(req.Topics, topic)

	ctx, cancel := context.WithTimeout(ctx, fetchMaxWait+fetchSlack+s.throttled)
	defer cancel()
	buf, _ := c.buffers.Get().(*[]byte)
	if buf == nil {
		buf = new([]byte)
	}
	res, err := c.cluster.request(ctx, broker, req, buf)
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

func (s *source) partition(ctx context.Context, at int64, part *kmsg.FetchResponseTopicPartition) (*chunk, error) {
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
	k := &chunk{log: s.log, from: at, batches: slices.Clone(part.RecordBatches), aborted: part.AbortedTransactions}
	if k.next = behindBatches(k.batches, at); k.next <= at {
		if len(part.RecordBatches) == 0 {
			return nil, nil //nolint:nilnil // nothing by now
		}
		k.next = at + 1 // for whoever reads it to find out what is wrong with it
	}
	return k, nil
}
