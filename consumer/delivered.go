package consumer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
)

const (
	deliveredInterval = time.Second
	deliveredBatch    = 5000 // partitions in one commit; on Apache Kafka it takes 0.15 s
)

// delivered keeps how far users' own topics were written to their streams, as committed offsets of
// the group "<Group>.delivered": so that Kafka's tools show what a user has not seen, and that a
// client without an id can go on there. The group has no members; commits are of no generation.
type delivered struct {
	client *kafka.Client
	group  string

	mu    sync.Mutex
	dirty map[Partition]int64
}

func newDelivered(c *Consumer) *delivered {
	return &delivered{
		client: &kafka.Client{Addr: c.cluster.addr, Transport: c.cluster.transport, Timeout: requestTimeout},
		group:  c.cfg.Group + ".delivered",
		dirty:  make(map[Partition]int64),
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
			c.log.Debug("commit what was delivered; it is tried again", "group", c.delivered.group, "error", err)
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
	topics := make(map[string][]int)
	for p := range of {
		topics[p.Topic] = append(topics[p.Topic], int(p.ID))
	}
	res, err := d.client.OffsetFetch(ctx, &kafka.OffsetFetchRequest{GroupID: d.group, Topics: topics})
	if err == nil {
		err = res.Error
	}
	if errors.Is(err, kafka.GroupIdNotFound) { // nothing was delivered ever
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("delivered positions: %w", err)
	}
	committed := make(map[Partition]int64)
	for topic, parts := range res.Topics {
		for _, part := range parts {
			if part.Error == nil && part.CommittedOffset >= 0 {
				committed[Partition{topic, int32(part.Partition)}] = part.CommittedOffset //nolint:gosec // Kafka's
			}
		}
	}
	return committed, nil
}

func (d *delivered) commit(ctx context.Context, batch, committed map[Partition]int64) error {
	topics := make(map[string][]kafka.OffsetCommit)
	for p, next := range batch {
		if was, ok := committed[p]; !ok || was < next {
			topics[p.Topic] = append(topics[p.Topic], kafka.OffsetCommit{Partition: int(p.ID), Offset: next})
		}
	}
	if len(topics) == 0 {
		return nil
	}
	res, err := d.client.OffsetCommit(ctx, &kafka.OffsetCommitRequest{GroupID: d.group, GenerationID: -1, Topics: topics})
	if err != nil {
		return fmt.Errorf("commit delivered positions: %w", err)
	}
	for topic, parts := range res.Topics {
		for _, part := range parts {
			// A topic that is gone has no position to keep.
			if part.Error != nil && !errors.Is(part.Error, kafka.UnknownTopicOrPartition) {
				return fmt.Errorf("commit delivered position of %s/%d: %w", topic, part.Partition, part.Error)
			}
		}
	}
	return nil
}
