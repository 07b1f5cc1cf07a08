package consumer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
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
		names := c.groupTopics()
		if len(names) == 0 {
			pause(ctx, groupBackoff)
			continue
		}
		if err := c.member(ctx, names); err != nil && ctx.Err() == nil {
			c.log.Debug("consumer group", "group", c.groupID(), "error", err)
			pause(ctx, groupBackoff)
		}
	}
}

func (c *Consumer) groupID() string { return c.cfg.Group + "." + c.cfg.Replica }

// groupTopics returns the topics that are always read and exist. To name one that does not would
// have it created: kafka-go's metadata requests allow that.
func (c *Consumer) groupTopics() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var names []string
	for name := range c.static {
		if t := c.topics[name]; len(t.leaders) > 0 && !t.missing {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// member is one membership, which ends with ctx, with an error, or when there are more topics.
func (c *Consumer) member(ctx context.Context, names []string) error {
	group, err := kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{
		ID:               c.groupID(),
		Brokers:          append(slices.Clone(c.cfg.Brokers), c.cluster.brokers.addresses()...),
		Topics:           names,
		Dialer:           &kafka.Dialer{ClientID: clientID, Timeout: requestTimeout, TLS: c.cfg.TLS, SASLMechanism: c.cfg.SASL},
		SessionTimeout:   sessionTimeout,
		RebalanceTimeout: sessionTimeout,
		JoinGroupBackoff: groupBackoff,
		GroupBalancers:   []kafka.GroupBalancer{everything{c}},
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
			return err
		}
		c.metrics.generations.Inc()
		c.metrics.rebalances.Observe(time.Since(begun).Seconds())
		if err := c.generation(ctx, gen, names); err != nil {
			return err
		}
	}
}

// everything assigns all partitions to each member, because each replica reads them all. It
// implements [kafka.GroupBalancer].
type everything struct{ *Consumer }

// ProtocolName implements [kafka.GroupBalancer].
func (everything) ProtocolName() string { return "everything" }

// UserData implements [kafka.GroupBalancer].
func (everything) UserData() ([]byte, error) { return nil, nil }

// AssignGroups implements [kafka.GroupBalancer]. The group's leader runs it, and so sees whether
// there is more than the one member that there should be.
func (e everything) AssignGroups(members []kafka.GroupMember, partitions []kafka.Partition) kafka.GroupMemberAssignments {
	if len(members) > 1 {
		e.log.Error("another replica uses the same group and replica name; give each its own --replica", "group", e.groupID(), "members", len(members))
	}
	assignments := make(kafka.GroupMemberAssignments)
	for _, m := range members {
		assignments[m.ID] = make(map[string][]int)
		for _, p := range partitions {
			assignments[m.ID][p.Topic] = append(assignments[m.ID][p.Topic], p.ID)
		}
	}
	return assignments
}

// errMoreTopics ends a membership whose list of topics is outdated.
var errMoreTopics = errors.New("more topics to commit")

// generation commits until the generation or ctx ends.
func (c *Consumer) generation(ctx context.Context, gen *kafka.Generation, names []string) error {
	ended := make(chan struct{})
	gen.Start(func(generation context.Context) {
		<-generation.Done()
		close(ended)
	})
	committed := make(map[Partition]int64)
	failures := 0
	ticker := time.NewTicker(commitInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ended:
			return nil
		case <-ctx.Done():
			_ = c.commit(gen, committed) // counted and logged there
			return ctx.Err()
		case <-ticker.C:
			if err := c.commit(gen, committed); err == nil {
				failures = 0
			} else if failures++; failures == commitFailures {
				return err
			}
			if !slices.Equal(names, c.groupTopics()) {
				return errMoreTopics
			}
		}
	}
}

// commit commits the positions that moved since committed, which it updates.
func (c *Consumer) commit(gen *kafka.Generation, committed map[Partition]int64) error {
	offsets := make(map[string]map[int]int64)
	moved := make(map[Partition]int64)
	for _, f := range c.reader.all() {
		if f.route.Kind == PerUser {
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
		c.log.Debug("commit", "group", gen.GroupID, "error", err)
		return fmt.Errorf("commit: %w", err)
	}
	c.metrics.commits.WithLabelValues("ok").Inc()
	maps.Copy(committed, moved)
	return nil
}
