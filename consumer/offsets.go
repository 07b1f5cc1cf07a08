package consumer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"herald/consumer/broker"
)

// OutOfRangeError says that a partition's log does not hold an offset: retention deleted the record
// (Offset < Start), or the log ends before it (Offset > End).
type OutOfRangeError struct {
	Position
	Start int64 // the first offset retained
	End   int64 // the high watermark
}

func (e *OutOfRangeError) Error() string {
	return fmt.Sprintf("offset %d of %s is not in the log, which holds %d to %d", e.Offset, e.Partition, e.Start, e.End)
}

// ErrRecreated says that a topic was deleted and created again.
var ErrRecreated = errors.New("topic was deleted and created again")

// AfterAll is the offset that [Consumer.Since] returns for a partition whose records are all older than the
// time.
const AfterAll int64 = math.MaxInt64

// offsetFinder asks Kafka about offsets and topic ids.
type offsetFinder struct {
	cluster  *broker.Cluster
	topics   *topicRegistry
	confirms chan struct{} // bounds the metadata requests of confirm

	// checkTopic is liveReader.checkTopic. New sets it, because a liveReader needs an offsetFinder.
	checkTopic func(p Partition, topicID [16]byte, end int64) error
}

func newOffsetFinder(cluster *broker.Cluster, topics *topicRegistry) *offsetFinder {
	return &offsetFinder{
		cluster: cluster, topics: topics, confirms: make(chan struct{}, 16),
		checkTopic: func(Partition, [16]byte, int64) error { return nil },
	}
}

// findSince implements [Consumer.Since].
func (f *offsetFinder) findSince(ctx context.Context, partitions []Partition, t time.Time) (map[Partition]int64, error) {
	timestamp := int64(broker.EarliestOffset)
	if !t.IsZero() {
		timestamp = max(0, t.UnixMilli())
	}
	query := make(broker.OffsetQuery)
	f.topics.mu.Lock()
	for _, p := range partitions {
		if topic := f.topics.states[p.Topic]; topic != nil && !topic.missing && int(p.ID) < len(topic.leaders) {
			query.Add(topic.leaders[p.ID], p, timestamp)
		}
	}
	f.topics.mu.Unlock()
	var leaderless error
	for p := range query[-1] {
		leaderless = fmt.Errorf("partition %s has no leader", p)
	}
	delete(query, -1)
	first, err := f.cluster.ListOffsets(ctx, query)
	for p, offset := range first {
		if offset < 0 {
			first[p] = AfterAll
		}
	}
	return first, cmp.Or(err, leaderless)
}

// findStarts implements [Consumer.Starts].
func (f *offsetFinder) findStarts(ctx context.Context, topics []UserTopic) (map[Partition]int64, error) {
	var partitions []Partition
	f.topics.mu.Lock()
	for i := range topics {
		if topic := f.topics.states[topics[i].Topic]; topic != nil {
			for id := range topic.leaders {
				partitions = append(partitions, Partition{Topic: topic.name, ID: int32(id)})
			}
		}
	}
	f.topics.mu.Unlock()
	return f.findSince(ctx, partitions, time.Time{})
}

// confirm implements [Consumer.Confirm].
func (f *offsetFinder) confirm(ctx context.Context, topic string, topicID [16]byte) error {
	select {
	case f.confirms <- struct{}{}:
		defer func() { <-f.confirms }()
	case <-ctx.Done():
		return ctx.Err()
	}
	found, err := f.cluster.FetchMetadata(ctx, []string{topic}, false)
	if err != nil {
		return err
	}
	m, ok := found[topic]
	if ok && m.Err == nil && f.topics.isSame(topic, topicID, m.ID) {
		return nil
	}
	f.topics.doubt(topic)
	return errors.Join(ErrRecreated, m.Err)
}

// findRange implements [Consumer.Range].
func (f *offsetFinder) findRange(ctx context.Context, p Partition, topicID [16]byte) (start, end int64, err error) {
	if start, end, err = f.askRange(ctx, p, topicID); err == nil {
		err = f.checkTopic(p, topicID, end)
	}
	return start, end, err
}

// askRange asks the leader for the range of a log, which may be of a topic that was created again a moment ago.
func (f *offsetFinder) askRange(ctx context.Context, p Partition, topicID [16]byte) (start, end int64, err error) {
	leader, id, err := f.topics.leaderOf(p)
	if err != nil {
		return 0, 0, err
	}
	if id != topicID {
		return 0, 0, ErrRecreated
	}
	return f.cluster.ListRange(ctx, leader, p)
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
