package consumer

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// fetchCommitted returns the committed offsets of the partitions in of. A partition without one is not in
// the map.
func (d *deliveredPositions) fetchCommitted(ctx context.Context, of map[Partition]int64) (map[Partition]int64, error) {
	if len(of) == 0 { // a request without topics asks for all topics
		return nil, nil
	}
	topics := make(map[string][]int32)
	for p := range of {
		topics[p.Topic] = append(topics[p.Topic], p.ID)
	}
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Group = d.group
	for name, partitions := range topics {
		topic := kmsg.NewOffsetFetchRequestTopic()
		topic.Topic, topic.Partitions = name, partitions
		req.Topics = append(req.Topics, topic)
	}
	res, err := d.cluster.RequestCoordinator(ctx, d.group, req)
	if err != nil {
		return nil, fmt.Errorf("delivered positions: %w", err)
	}
	answer := res.(*kmsg.OffsetFetchResponse)
	err = kerr.ErrorForCode(answer.ErrorCode)
	if errors.Is(err, kerr.GroupIDNotFound) { // nothing was ever delivered
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("delivered positions: %w", err)
	}
	committed := make(map[Partition]int64)
	for _, topic := range answer.Topics {
		for _, part := range topic.Partitions {
			if part.ErrorCode == 0 && part.Offset >= 0 {
				committed[Partition{Topic: topic.Topic, ID: part.Partition}] = part.Offset
			}
		}
	}
	return committed, nil
}

// commit commits the positions of batch that are above the committed offsets. Another replica may commit a
// higher position just before; the checks repair that.
func (d *deliveredPositions) commit(ctx context.Context, batch, committed map[Partition]int64) error {
	topics := make(map[string]*kmsg.OffsetCommitRequestTopic)
	for p, next := range batch {
		if was, ok := committed[p]; ok && was >= next {
			continue
		}
		if topics[p.Topic] == nil {
			topics[p.Topic] = new(kmsg.NewOffsetCommitRequestTopic())
			topics[p.Topic].Topic = p.Topic
		}
		part := kmsg.NewOffsetCommitRequestTopicPartition()
		part.Partition, part.Offset, part.LeaderEpoch = p.ID, next, -1
		topics[p.Topic].Partitions = append(topics[p.Topic].Partitions, part)
	}
	if len(topics) == 0 {
		return nil
	}
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.Generation = d.group, -1
	for _, topic := range topics {
		req.Topics = append(req.Topics, *topic)
	}
	res, err := d.cluster.RequestCoordinator(ctx, d.group, req)
	if err != nil {
		return fmt.Errorf("commit delivered positions: %w", err)
	}
	for _, topic := range res.(*kmsg.OffsetCommitResponse).Topics {
		for _, part := range topic.Partitions {
			// A deleted topic has no position to keep.
			if err := kerr.ErrorForCode(part.ErrorCode); err != nil && !errors.Is(err, kerr.UnknownTopicOrPartition) {
				return fmt.Errorf("commit delivered position of %s/%d: %w", topic.Topic, part.Partition, err)
			}
		}
	}
	return nil
}
