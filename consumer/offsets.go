package consumer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"herald/consumer/broker"
	"math"
	"time"
)

// AfterAll is where [Consumer.Since] finds the first record of a partition that has none so young: behind
// all there are.
const AfterAll int64 = math.MaxInt64

// Since returns, for each of the partitions, the offset of the first record that was written at the time
// or later (by the records' timestamps), or with the zero time the first one retained. Those of topics
// that are not read here, or do not exist, are left out, and so are those for which Kafka has no answer,
// such as those without a leader: the error is that of one of the latter, and the others' offsets are good.
func (c *Consumer) Since(ctx context.Context, partitions []Partition, t time.Time) (map[Partition]int64, error) {
	which := int64(broker.EarliestOffset)
	if !t.IsZero() {
		which = max(0, t.UnixMilli())
	}
	ask := make(broker.OffsetQuery)
	c.mu.Lock()
	for _, p := range partitions {
		if known := c.topics[p.Topic]; known != nil && !known.missing && int(p.ID) < len(known.leaders) {
			ask.Add(known.leaders[p.ID], p, which)
		}
	}
	c.mu.Unlock()
	var leaderless error
	for p := range ask[-1] {
		leaderless = fmt.Errorf("partition %s has no leader", p)
	}
	delete(ask, -1)
	first, err := c.cluster.ListOffsets(ctx, ask)
	for p, offset := range first {
		if offset < 0 {
			first[p] = AfterAll
		}
	}
	return first, cmp.Or(err, leaderless)
}

// Starts is Since of all partitions of the sources, with the zero time.
func (c *Consumer) Starts(ctx context.Context, sources []UserTopic) (map[Partition]int64, error) {
	var partitions []Partition
	c.mu.Lock()
	for i := range sources {
		if known := c.topics[sources[i].Topic]; known != nil {
			for id := range known.leaders {
				partitions = append(partitions, Partition{Topic: known.name, ID: int32(id)})
			}
		}
	}
	c.mu.Unlock()
	return c.Since(ctx, partitions, time.Time{})
}

// Confirm asks Kafka whether topicID is that of topic. The error is [ErrRecreated] if it is not, or
// what Kafka answered; it may be asked again.
func (c *Consumer) Confirm(ctx context.Context, topic string, topicID [16]byte) error {
	select {
	case c.confirms <- struct{}{}:
		defer func() { <-c.confirms }()
	case <-ctx.Done():
		return ctx.Err()
	}
	found, err := c.cluster.FetchMetadata(ctx, []string{topic}, false)
	if err != nil {
		return err
	}
	m, ok := found[topic]
	if ok && m.Err == nil && m.ID == topicID {
		return nil
	}
	c.doubt(topic)
	return errors.Join(ErrRecreated, m.Err)
}

// Range returns the first offset that p retains and its end, the high watermark: what the log holds,
// whether or not transactions in it are still open. The error is
// [ErrRecreated] if topicID is not that of the topic any more, or what Kafka answered.
func (c *Consumer) Range(ctx context.Context, p Partition, topicID [16]byte) (start, end int64, err error) {
	leader, id, err := c.leader(p)
	if err != nil {
		return 0, 0, err
	}
	if id != topicID {
		return 0, 0, ErrRecreated
	}
	return c.cluster.ListRange(ctx, leader, p)
}

// ErrRecreated says that a topic is not the one that was asked for: it was deleted and created again.
var ErrRecreated = errors.New("topic was deleted and created again")

// pause waits before trying again; it returns early when ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// OutOfRangeError says that a partition does not hold the offset asked for: it was deleted by
// retention (Offset < Start) or never written in this log (Offset > End).
type OutOfRangeError struct {
	Position
	Start int64 // the first offset retained
	End   int64 // the high watermark
}

func (e *OutOfRangeError) Error() string {
	return fmt.Sprintf("offset %d of %s is not in the log, which holds %d to %d", e.Offset, e.Partition, e.Start, e.End)
}
