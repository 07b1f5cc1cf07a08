package broker

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Times that ListOffsets gives a meaning of their own (KIP-79).
const (
	LatestOffset   = -1 // the end of the partition
	EarliestOffset = -2 // the first offset that the partition retains
)

// Isolation levels (KIP-98).
const (
	ReadUncommitted = 0
	ReadCommitted   = 1 // records of open and aborted transactions are not seen
)

const listOffsetsPartitions = 1000 // partitions in one request at most

// OffsetQuery holds the offsets to look up with [Cluster.ListOffsets]: for each leader, its partitions
// with a time. The time is [LatestOffset], [EarliestOffset], or milliseconds of Unix time for the first
// record that was written then or later.
type OffsetQuery map[int32]map[Partition]int64

// Add adds a partition and a time to the query.
func (q OffsetQuery) Add(leader int32, p Partition, time int64) {
	if q[leader] == nil {
		q[leader] = make(map[Partition]int64)
	}
	q[leader][p] = time
}

// ListOffsets looks up offsets of partitions of any number of leaders, as a read_committed consumer sees
// them: the end of a partition is its last stable offset. It asks all leaders at the same time, but for
// leaders that [Cluster.CheckAnswering] reports. An offset is -1 if no record is so young. With an
// error the map holds the offsets of the partitions that had an answer.
func (c *Cluster) ListOffsets(ctx context.Context, query OffsetQuery) (map[Partition]int64, error) {
	var (
		wg      sync.WaitGroup
		mu      sync.Mutex
		failed  error
		offsets = make(map[Partition]int64)
	)
	for leader, times := range query {
		wg.Go(func() {
			var found map[Partition]int64
			err := c.CheckAnswering(leader)
			if err == nil {
				found, err = c.ListLeaderOffsets(ctx, leader, times)
			}
			mu.Lock()
			maps.Copy(offsets, found)
			failed = cmp.Or(failed, err)
			mu.Unlock()
		})
	}
	wg.Wait()
	return offsets, failed
}

// ListLeaderOffsets looks up offsets of any number of partitions of one leader, as a read_committed
// consumer sees them: the end of a partition is its last stable offset. times holds for each partition
// [LatestOffset], [EarliestOffset], or milliseconds of Unix time. The request is sent even if
// [Cluster.CheckAnswering] reports the leader. With an error the map holds the offsets of the partitions
// that had an answer; it is nil if the leader did not answer at all.
func (c *Cluster) ListLeaderOffsets(ctx context.Context, leader int32, times map[Partition]int64) (map[Partition]int64, error) {
	var (
		failed  error
		offsets map[Partition]int64
	)
	for partitions := range slices.Chunk(slices.Collect(maps.Keys(times)), listOffsetsPartitions) {
		some := make(map[Partition]int64, len(partitions))
		for _, p := range partitions {
			some[p] = times[p]
		}
		found, err := c.requestOffsets(ctx, leader, some, ReadCommitted)
		failed = cmp.Or(failed, err)
		if found == nil { // it would not answer the next request either
			break
		}
		if offsets == nil {
			offsets = make(map[Partition]int64, len(times))
		}
		maps.Copy(offsets, found)
	}
	return offsets, failed
}

// ListRange returns the first offset that the leader retains of a partition and the partition's end, the
// high watermark: what the log holds, whether or not transactions in it are still open. The error is
// [Cluster.CheckAnswering]'s if it reports the leader.
func (c *Cluster) ListRange(ctx context.Context, leader int32, p Partition) (start, end int64, err error) {
	if err := c.CheckAnswering(leader); err != nil {
		return 0, 0, err
	}
	first, err := c.requestOffsets(ctx, leader, map[Partition]int64{p: EarliestOffset}, ReadUncommitted)
	if err != nil {
		return 0, 0, err
	}
	last, err := c.requestOffsets(ctx, leader, map[Partition]int64{p: LatestOffset}, ReadUncommitted)
	if err != nil {
		return 0, 0, err
	}
	return first[p], last[p], nil
}

// requestOffsets sends one ListOffsets request to the leader of all partitions in times. The end of a
// partition is the last stable offset with ReadCommitted, the high watermark with ReadUncommitted. With
// an error the map holds the partitions that had an answer; it is nil if the leader did not answer.
func (c *Cluster) requestOffsets(ctx context.Context, leader int32, times map[Partition]int64, isolation int8) (map[Partition]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, RequestTimeout)
	defer cancel()
	res, err := c.Request(ctx, leader, newListOffsetsRequest(times, isolation), nil)
	if err != nil {
		return nil, err
	}
	offsets := make(map[Partition]int64, len(times))
	for _, t := range res.(*kmsg.ListOffsetsResponse).Topics {
		for _, got := range t.Partitions {
			p := Partition{t.Topic, got.Partition}
			if refused := kerr.ErrorForCode(got.ErrorCode); refused != nil {
				err = fmt.Errorf("list offsets of %s: %w", p, refused)
				continue
			}
			offsets[p] = got.Offset
		}
	}
	for p := range times {
		if _, ok := offsets[p]; !ok && err == nil {
			err = fmt.Errorf("list offsets of %s: no answer for it", p)
		}
	}
	return offsets, err
}

func newListOffsetsRequest(times map[Partition]int64, isolation int8) *kmsg.ListOffsetsRequest {
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID = -1
	req.IsolationLevel = isolation
	topics := make(map[string]int) // index in req.Topics
	for p, time := range times {
		i, ok := topics[p.Topic]
		if !ok {
			i = len(req.Topics)
			topics[p.Topic] = i
			topic := kmsg.NewListOffsetsRequestTopic()
			topic.Topic = p.Topic
			req.Topics = append(req.Topics, topic)
		}
		part := kmsg.NewListOffsetsRequestTopicPartition()
		part.Partition, part.Timestamp, part.CurrentLeaderEpoch = p.ID, time, -1
		req.Topics[i].Partitions = append(req.Topics[i].Partitions, part)
	}
	return req
}
