package consumer

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
)

const (
	commitInterval = 5 * time.Second
	sessionTimeout = 10 * time.Second
	groupBackoff   = 500 * time.Millisecond
	joinTimeout    = time.Minute     // then with a new membership
	commitFailures = 3               // in a row, then with a new membership
	leaveTimeout   = 3 * time.Second // to commit and leave at the end
)

// runGroup keeps the replica a member of its consumer group and commits what has been read, so
// that Kafka's tools show the group and its lag. Reading does not wait for it: a replica reads all
// partitions whatever the group says, and a coordinator that is away delays nobody.
func (c *Consumer) runGroup(ctx context.Context) {
	for ctx.Err() == nil {
		topics := c.groupTopics()
		if len(topics) == 0 {
			pause(ctx, groupBackoff)
			continue
		}
		if err := c.member(ctx, topics); err != nil && ctx.Err() == nil {
			c.health.failed(err)
			pause(ctx, groupBackoff)
		}
	}
}

func (c *Consumer) groupID() string { return c.cfg.Group + "." + c.cfg.Replica }

// groupTopics returns the topics that are always read, exist and may be read, with their numbers of
// partitions. With one that does not exist the group's leader, as kafka-go has it, assigns nothing at all,
// and a commit of one that may not be read would fail.
func (c *Consumer) groupTopics() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	topics := make(map[string]int)
	for name := range c.static {
		if t := c.topics[name]; len(t.leaders) > 0 && !t.missing && !t.denied {
			topics[name] = len(t.leaders)
		}
	}
	return topics
}

// member is one membership, which ends with ctx, when the topics change, when commits fail, or with an
// error that keeps it from joining.
func (c *Consumer) member(ctx context.Context, topics map[string]int) error {
	var mu sync.Mutex
	var assigned map[string][]int
	sticky := balancer{crowd: c.crowded, assigned: func() map[string][]int {
		mu.Lock()
		defer mu.Unlock()
		return assigned
	}}
	group, err := kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{
		ID:               c.groupID(),
		Brokers:          c.cluster.Addresses(), // only the first that takes a connection is asked
		Topics:           slices.Sorted(maps.Keys(topics)),
		Dialer:           c.cluster.GroupDialer(),
		SessionTimeout:   sessionTimeout,
		RebalanceTimeout: sessionTimeout,
		JoinGroupBackoff: groupBackoff,
		GroupBalancers:   []kafka.GroupBalancer{sticky},
	})
	if err != nil {
		return err
	}
	defer group.Close() //nolint:errcheck // leaving is a courtesy: the session times out anyway
	for {
		begun := time.Now()
		joining, cancel := context.WithTimeout(ctx, joinTimeout)
		gen, err := group.Next(joining)
		cancel()
		if err != nil {
			return fmt.Errorf("join: %w", err)
		}
		mu.Lock()
		assigned = make(map[string][]int)
		for topic, partitions := range gen.Assignments {
			for _, p := range partitions {
				assigned[topic] = append(assigned[topic], p.ID)
			}
		}
		mu.Unlock()
		c.metrics.generations.Inc()
		c.metrics.rebalances.Observe(time.Since(begun).Seconds())
		if !c.generation(ctx, gen, topics) {
			return nil
		}
	}
}

// crowded tells that the group has more members than this replica.
func (c *Consumer) crowded(members int) {
	c.log.Warn("another process has this replica's name: if it is not a predecessor that was killed and goes in a moment, give each its own --replica",
		"group", c.groupID(), "members", members)
}

// generation commits until the generation ends, and a last time then. False is for the end of the
// membership: ctx ended, commits fail, or the topics have changed.
func (c *Consumer) generation(ctx context.Context, gen *kafka.Generation, topics map[string]int) bool {
	ended, left := make(chan struct{}), make(chan struct{})
	defer close(left)
	gen.Start(func(generation context.Context) {
		<-generation.Done()
		close(ended)
		<-left // only then kafka-go joins the next generation, and this one may commit no more
	})
	committed := make(map[Partition]int64)
	failures := 0
	ticker := time.NewTicker(commitInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ended:
			_ = c.commit(gen, committed)
			return true
		case <-ctx.Done():
			_ = c.commit(gen, committed)
			return false
		case <-ticker.C:
			if err := c.commit(gen, committed); err == nil {
				failures = 0
				c.health.worked()
			} else if failures++; failures == commitFailures {
				return false
			}
			if !maps.Equal(topics, c.groupTopics()) {
				return false
			}
		}
	}
}

// commit commits the positions of the partitions assigned to us that moved since committed, which it
// updates. A failure is counted and told here. That the group has gone on without us is not told: the
// partitions are others' to commit now, or ours again in the next generation.
func (c *Consumer) commit(gen *kafka.Generation, committed map[Partition]int64) error {
	ours := func(p Partition) bool {
		return slices.ContainsFunc(gen.Assignments[p.Topic], func(a kafka.PartitionAssignment) bool { return a.ID == int(p.ID) })
	}
	offsets := make(map[string]map[int]int64)
	moved := make(map[Partition]int64)
	for _, f := range c.reader.all() {
		if !ours(f.Partition) {
			continue
		}
		f.mu.Lock()
		next := f.next
		f.mu.Unlock()
		if last, ok := committed[f.Partition]; ok && last == next {
			continue
		}
		if offsets[f.Topic] == nil {
			offsets[f.Topic] = make(map[int]int64)
		}
		offsets[f.Topic][int(f.ID)] = next
		moved[f.Partition] = next
	}
	if len(offsets) == 0 {
		return nil
	}
	if err := gen.CommitOffsets(offsets); err != nil {
		c.metrics.commits.WithLabelValues("error").Inc()
		err = fmt.Errorf("commit: %w", err)
		if !outdated(err) {
			c.health.failed(err)
		}
		return err
	}
	c.metrics.commits.WithLabelValues("ok").Inc()
	maps.Copy(committed, moved)
	return nil
}
