package consumer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	deliveredInterval = time.Second
	deliveredBatch    = 5000 // partitions in one commit; on Apache Kafka it takes 0.15 s
)

// delivered keeps how far users' own topics were written to their streams, as committed offsets of
// the group "<Group>.delivered": so that Kafka's tools show what a user has not seen, and that a
// client without an id can go on there. The group has no members; commits are of no generation.
type delivered struct {
	cluster *cluster
	group   string
	health  *groupHealth

	mu    sync.Mutex
	dirty map[Partition]int64
}

func newDelivered(c *Consumer) *delivered {
	group := c.cfg.Group + ".delivered"
	return &delivered{
		cluster: c.cluster,
		group:   group,
		health:  &groupHealth{consumer: c, group: group},
		dirty:   make(map[Partition]int64),
	}
}

// Delivered notes that user's stream was written all before next of a partition. Only users' own
// topics count. It does not wait.
func (c *Consumer) Delivered(p Partition, next int64) {
	if c.static[p.Topic] != nil {
		return
	}
	d := c.delivered
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dirty[p] = max(d.dirty[p], next)
}

// DeliveredTo returns how far user's own topics were delivered, on any replica and to any device. A
// partition of which nothing was delivered is at its start. The error is what Kafka answered.
func (c *Consumer) DeliveredTo(ctx context.Context, user string) (map[Partition]int64, error) {
	own, err := c.routes.userTopics(user)
	if err != nil || len(own) == 0 {
		return nil, err
	}
	at := make(map[Partition]int64)
	c.mu.Lock()
	for name := range own {
		if t := c.topics[name]; t != nil && !t.missing {
			for i := range t.leaders {
				at[Partition{name, int32(i)}] = 0
			}
		}
	}
	c.mu.Unlock()
	d := c.delivered
	d.mu.Lock()
	for p := range at { // what is not committed yet; it may be by the time that Kafka is asked
		at[p] = d.dirty[p]
	}
	d.mu.Unlock()
	committed, err := d.fetch(ctx, at)
	if err != nil {
		return nil, err
	}
	for p, next := range committed {
		at[p] = max(at[p], next)
	}
	return at, nil
}

// runDelivered commits what was delivered until ctx ends, and the rest then.
func (c *Consumer) runDelivered(ctx context.Context) {
	for ctx.Err() == nil {
		pause(ctx, deliveredInterval)
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestTimeout)
		if err := c.delivered.flush(last); err != nil {
			c.metrics.commits.WithLabelValues("error").Inc()
			c.delivered.health.failed(err)
		}
		cancel()
	}
}

// flush commits what has changed. Another replica may have delivered more of the same topic to
// another device: what is committed never goes back.
func (d *delivered) flush(ctx context.Context) error {
	for {
		batch := make(map[Partition]int64)
		d.mu.Lock()
		for p, next := range d.dirty {
			if len(batch) < deliveredBatch {
				batch[p] = next
			}
		}
		d.mu.Unlock()
		if len(batch) == 0 {
			return nil
		}
		committed, err := d.fetch(ctx, batch)
		if err == nil {
			err = d.commit(ctx, batch, committed)
		}
		if err != nil {
			return err
		}
		d.health.worked()
		d.mu.Lock()
		for p, next := range batch {
			if d.dirty[p] == next {
				delete(d.dirty, p)
			}
		}
		d.mu.Unlock()
	}
}

// fetch returns the committed offsets of those of the partitions that have one.
func (d *delivered) fetch(ctx context.Context, of map[Partition]int64) (map[Partition]int64, error) {
	if len(of) == 0 { // a request that names no topic is about all
		return nil, nil
	}
	topics := make(map[string][]int32)
	for p := range of {
		topics[p.Topic] = append(topics[p.Topic], p.ID)
	}
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Version, req.Group = 5, d.group
	for name, partitions := range topics {
		topic := kmsg.NewOffsetFetchRequestTopic()
		topic.Topic, topic.Partitions = name, partitions
		req.Topics = append(req.Topics, topic)
	}
	res, err := d.cluster.coordinate(ctx, d.group, req)
	if err != nil {
		return nil, fmt.Errorf("delivered positions: %w", err)
	}
	answer := res.(*kmsg.OffsetFetchResponse)
	err = kerr.ErrorForCode(answer.ErrorCode)
	if errors.Is(err, kerr.GroupIDNotFound) { // nothing was delivered ever
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("delivered positions: %w", err)
	}
	committed := make(map[Partition]int64)
	for _, topic := range answer.Topics {
		for _, part := range topic.Partitions {
			if part.ErrorCode == 0 && part.Offset >= 0 {
				committed[Partition{topic.Topic, part.Partition}] = part.Offset
			}
		}
	}
	return committed, nil
}

func (d *delivered) commit(ctx context.Context, batch, committed map[Partition]int64) error {
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
	req.Version, req.Group, req.Generation = 7, d.group, -1
	for _, topic := range topics {
		req.Topics = append(req.Topics, *topic)
	}
	res, err := d.cluster.coordinate(ctx, d.group, req)
	if err != nil {
		return fmt.Errorf("commit delivered positions: %w", err)
	}
	for _, topic := range res.(*kmsg.OffsetCommitResponse).Topics {
		for _, part := range topic.Partitions {
			// A topic that is gone has no position to keep.
			if err := kerr.ErrorForCode(part.ErrorCode); err != nil && !errors.Is(err, kerr.UnknownTopicOrPartition) {
				return fmt.Errorf("commit delivered position of %s/%d: %w", topic.Topic, part.Partition, err)
			}
		}
	}
	return nil
}
