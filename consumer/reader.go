package consumer

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// shardSize is how many partitions share a fetch session. Apache Kafka walks all of a session's
// partitions at every fetch, so latency grows with them.
const shardSize = 250

// feed is one partition being read.
type feed struct {
	Partition
	route   *Route
	topicID [16]byte

	mu     sync.Mutex // held while records are delivered
	closed bool
	next   int64 // the offset to fetch next

	shard *shard // guarded by reader.mu; nil while no leader is known
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
	feeds map[place]*feed // guarded by reader.mu
	wake  chan struct{}
}

// reader reads many partitions live.
//
// Lock order: feed.mu before reader.mu. Neither is held over a request to a broker.
type reader struct {
	consumer *Consumer
	ctx      context.Context //nolint:containedctx // the life of the goroutines that add starts, not a request's
	wg       sync.WaitGroup

	mu     sync.Mutex
	feeds  map[Partition]*feed
	shards map[shardKey][]*shard
}

// assign puts the feed where its leader is; with leader -1 it waits for the next metadata.
func (r *reader) assign(f *feed, leader int32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.feeds[f.Partition] != f || f.shard != nil && f.shard.broker == leader {
		return
	}
	r.detach(f)
	if leader < 0 {
		return
	}
	key := shardKey{leader, f.route.Kind == PerUser}
	var to *shard
	for _, s := range r.shards[key] {
		if len(s.feeds) < shardSize {
			to = s
			break
		}
	}
	if to == nil {
		to = &shard{shardKey: key, feeds: make(map[place]*feed), wake: make(chan struct{}, 1)}
		r.shards[key] = append(r.shards[key], to)
		r.wg.Go(func() { r.run(to) })
	}
	f.shard = to
	to.feeds[place{f.topicID, f.ID}] = f
	select {
	case to.wake <- struct{}{}:
	default:
	}
}

// detach takes the feed out of its shard. r.mu is held.
func (r *reader) detach(f *feed) {
	if f.shard != nil {
		delete(f.shard.feeds, place{f.topicID, f.ID})
		f.shard = nil
	}
}

// park takes a feed that answers with errors out of its session, where it would make every fetch
// return at once, until the next metadata says where to read it.
func (r *reader) park(f *feed) {
	r.mu.Lock()
	r.detach(f)
	r.mu.Unlock()
	r.consumer.refresh()
}

func (r *reader) add(f *feed) {
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

// run fetches for one shard until the reader's context ends.
func (r *reader) run(s *shard) {
	const maxBackoff = 2 * time.Second
	session := &session{cluster: r.consumer.cluster, broker: s.broker}
	backoff := 50 * time.Millisecond
	for r.ctx.Err() == nil {
		feeds, want := r.wanted(s)
		if len(feeds) == 0 {
			session.reset()
			select {
			case <-s.wake:
				continue
			case <-r.ctx.Done():
				return
			}
		}
		res, err := session.fetch(r.ctx, want)
		if err == nil {
			backoff = 50 * time.Millisecond
			r.deliver(feeds, res)
			continue
		}
		if r.ctx.Err() != nil {
			return
		}
		if errors.Is(err, kerr.FetchSessionIDNotFound) || errors.Is(err, kerr.InvalidFetchSessionEpoch) {
			continue // begun anew by the next fetch
		}
		r.consumer.metrics.errors.WithLabelValues("fetch").Inc()
		r.consumer.log.Debug("fetch", "broker", s.broker, "error", err)
		r.consumer.refresh()
		pause(r.ctx, backoff)
		backoff = min(2*backoff, maxBackoff)
	}
}

func (r *reader) wanted(s *shard) (map[place]*feed, map[place]int64) {
	r.mu.Lock()
	feeds := maps.Clone(s.feeds)
	r.mu.Unlock()
	want := make(map[place]int64, len(feeds))
	for at, f := range feeds {
		f.mu.Lock()
		want[at] = f.next
		f.mu.Unlock()
	}
	return feeds, want
}

func (r *reader) deliver(feeds map[place]*feed, res *kmsg.FetchResponse) {
	for i := range res.Topics {
		t := &res.Topics[i]
		for j := range t.Partitions {
			if f := feeds[place{t.TopicID, t.Partitions[j].Partition}]; f != nil {
				r.partition(f, &t.Partitions[j])
			}
		}
	}
}

// partition hands one partition's answer to the sink, or deals with its error.
func (r *reader) partition(f *feed, part *kmsg.FetchResponseTopicPartition) {
	c := r.consumer
	switch err := kerr.ErrorForCode(part.ErrorCode); {
	case err == nil:
		if err := r.records(f, part); err != nil {
			c.metrics.errors.WithLabelValues("corrupt").Inc()
			c.log.Error("records cannot be read; the partition waits", "topic", f.Topic, "partition", f.ID, "offset", f.next, "error", err)
			r.park(f)
		}
	case errors.Is(err, kerr.OffsetOutOfRange):
		r.outOfRange(f)
	default:
		c.metrics.errors.WithLabelValues("partition").Inc()
		c.log.Info("partition moves", "topic", f.Topic, "partition", f.ID, "error", err)
		r.park(f)
	}
}

func (r *reader) records(f *feed, part *kmsg.FetchResponseTopicPartition) error {
	const chunk = 512 // records handed over at a time
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil
	}
	c := r.consumer
	c.metrics.bytes.WithLabelValues("live").Add(float64(len(part.RecordBatches)))
	b := batches{data: part.RecordBatches, aborted: part.AbortedTransactions, next: f.next}
	defer b.close()
	list := make([]Record, 0, chunk)
	for {
		var rec Record
		more, err := b.read(&rec)
		if more {
			rec.Headers = append([]Header(nil), rec.Headers...)
			c.own(f.route, f.Topic, &rec)
			list = append(list, rec)
		}
		// Records of a compressed batch share its buffer: what was read must be handed over before the
		// next batch is decompressed into it.
		if len(list) > 0 && (!more || len(list) == chunk || b.unread == 0 && b.scratch != nil) || !more && b.next > f.next {
			c.sink.Deliver(f.Partition, list, b.next)
			f.next = b.next
			c.metrics.records.Add(float64(len(list)))
			list = list[:0]
		}
		if err != nil || !more {
			c.metrics.lag(f, part.LastStableOffset)
			return err
		}
	}
}

// outOfRange finds out why the log does not hold the feed's next offset and tells the sink what
// was lost: retention overtook us, or the log was cut or replaced.
func (r *reader) outOfRange(f *feed) {
	c := r.consumer
	start, end, err := c.Range(r.ctx, f.Partition)
	if err != nil {
		r.park(f)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed || f.next >= start && f.next <= end {
		return
	}
	gap := Gap{From: f.next, To: start, Reason: GapRetention}
	if f.next > end {
		gap = Gap{From: f.next, To: end, Reason: GapUnknownID}
	}
	c.log.Warn("records are lost", "topic", f.Topic, "partition", f.ID, "from", gap.From, "to", gap.To, "reason", gap.Reason)
	c.sink.Gap(f.Partition, f.topicID, gap)
	f.next = gap.To
}
