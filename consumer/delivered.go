package consumer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"herald/consumer/broker"
)

const (
	deliveredInterval = time.Second
	deliveredBatch    = 5000             // partitions in one request; on Apache Kafka a commit of so many takes 0.15 s
	deliveredChecked  = 16 * time.Second // the last look at what was committed; another replica's commit is not under way for longer
)

// mark is how far a partition of one incarnation of a topic was delivered.
type mark struct {
	topicID [16]byte
	next    int64
}

// check is when to look at what was committed once more.
type check struct {
	mark
	after time.Duration
	due   time.Time
}

// delivered keeps how far users' own topics were written to their streams, as committed offsets of
// the group "<Group>.delivered": so that Kafka's tools show what a user has not seen, and that a
// client without an id can go on there. The group has no members; commits are of no generation.
//
// A position never goes back where one replica serves the user's devices. Replicas that commit for the
// same user at the same time may overtake each other, as Kafka knows no commit on a condition: the lower
// one that comes last stays until the other replica looks again, 1, 3, 7, 15 and 31 s after its commit,
// and mends it, while it reads the topic. Until then a device may be told again what another one has had,
// and never less.
type delivered struct {
	cluster *broker.Cluster
	group   string
	current func(topic string) [16]byte // the id of the topic as it is now; zero if that is not known
	health  *groupHealth

	mu     sync.Mutex // before Consumer.mu
	dirty  map[Partition]mark
	checks map[Partition]check
}

func newDelivered(c *Consumer) *delivered {
	group := c.cfg.Group + ".delivered"
	return &delivered{
		cluster: c.cluster,
		group:   group,
		current: c.topicID,
		health:  &groupHealth{consumer: c, group: group},
		dirty:   make(map[Partition]mark),
		checks:  make(map[Partition]check),
	}
}

// topicID is the id of a topic as it is now; zero if that is not known.
func (c *Consumer) topicID(name string) (id [16]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t := c.topics[name]; t != nil {
		id = t.id
	}
	return id
}

// Delivered notes that a user's stream was written all before next of a partition of the topic with
// that id. Only users' own topics count. It does not wait.
func (c *Consumer) Delivered(p Partition, topicID [16]byte, next int64) {
	d := c.delivered
	if m := (mark{topicID, next}); c.static[p.Topic] != nil || d.outdated(p, m) {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.note(p, mark{topicID, next})
}

// note has a position committed by the next flush. d.mu is held.
func (d *delivered) note(p Partition, m mark) {
	if was := d.dirty[p]; was.topicID != m.topicID || was.next < m.next {
		d.dirty[p] = m
	}
}

// outdated says that the topic may have been created again: what was delivered of the one before says
// nothing.
func (d *delivered) outdated(p Partition, m mark) bool { return d.current(p.Topic) != m.topicID }

// DeliveredTo returns how far user's own topics were delivered, on any replica and to any device. A
// partition of which nothing was delivered is at its start. The error is what Kafka answered.
func (c *Consumer) DeliveredTo(ctx context.Context, user string) (map[Partition]int64, error) {
	own, err := c.routes.userTopics(user)
	if err != nil || len(own) == 0 {
		return nil, err
	}
	at := make(map[Partition]int64)
	ids := make(map[Partition][16]byte)
	c.mu.Lock()
	for name := range own {
		if t := c.topics[name]; t != nil && !t.missing {
			for i := range t.leaders {
				p := Partition{Topic: name, ID: int32(i)}
				at[p], ids[p] = 0, t.id
			}
		}
	}
	c.mu.Unlock()
	d := c.delivered
	d.mu.Lock()
	for p, id := range ids { // what is not committed yet; it may be by the time that Kafka is asked
		for _, m := range []mark{d.dirty[p], d.checks[p].mark} {
			if m.topicID == id {
				at[p] = max(at[p], m.next)
			}
		}
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
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), broker.RequestTimeout)
		if err := c.delivered.flush(last); err != nil {
			c.metrics.commits.WithLabelValues("error").Inc()
			c.delivered.health.failed(err)
		}
		cancel()
	}
}

// flush commits what has changed and looks at what it committed before.
func (d *delivered) flush(ctx context.Context) error {
	if err := d.check(ctx, time.Now()); err != nil {
		return err
	}
	for {
		batch := make(map[Partition]int64)
		marks := make(map[Partition]mark)
		d.mu.Lock()
		for p, m := range d.dirty {
			if len(batch) == deliveredBatch {
				break
			}
			batch[p], marks[p] = m.next, m
		}
		d.mu.Unlock()
		if len(batch) == 0 {
			return nil
		}
		for p, m := range marks {
			if d.outdated(p, m) {
				delete(batch, p)
			}
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
		for p, m := range marks {
			if d.dirty[p] == m {
				delete(d.dirty, p)
			}
			if _, ok := batch[p]; ok {
				if was := d.checks[p]; was.topicID == m.topicID {
					m.next = max(m.next, was.next) // a device that lags says less
				}
				d.checks[p] = check{m, deliveredInterval, time.Now().Add(deliveredInterval)}
			}
		}
		d.mu.Unlock()
	}
}

// check looks again at positions whose turn it is, and has those committed again that another replica
// has put back.
func (d *delivered) check(ctx context.Context, now time.Time) error {
	for {
		due := make(map[Partition]int64)
		d.mu.Lock()
		for p, c := range d.checks {
			if len(due) < deliveredBatch && !now.Before(c.due) {
				due[p] = c.next
			}
		}
		d.mu.Unlock()
		if len(due) == 0 {
			return nil
		}
		committed, err := d.fetch(ctx, due)
		if err != nil {
			return err
		}
		d.mu.Lock()
		for p, next := range due {
			c := d.checks[p]
			delete(d.checks, p)
			at, ok := committed[p]
			switch {
			case !ok || d.outdated(p, c.mark): // Kafka has forgotten it with its topic
			case at < next:
				d.note(p, c.mark)
			case c.after < deliveredChecked:
				d.checks[p] = check{c.mark, 2 * c.after, now.Add(2 * c.after)}
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
	res, err := d.cluster.RequestCoordinator(ctx, d.group, req)
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
				committed[Partition{Topic: topic.Topic, ID: part.Partition}] = part.Offset
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
	res, err := d.cluster.RequestCoordinator(ctx, d.group, req)
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
