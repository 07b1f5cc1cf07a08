package consumer

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"

	"herald/consumer/broker"
)

const (
	commitInterval = 5 * time.Second
	sessionTimeout = 10 * time.Second
	groupBackoff   = 500 * time.Millisecond
	joinTimeout    = time.Minute // to join a generation; then the replica joins as a new member
	commitFailures = 3           // in a row; then the replica joins as a new member

	// leaveTimeout is how long [Consumer.Run] waits for the last commit and for leaving: kafka-go's calls
	// for them take no context.
	leaveTimeout = 3 * time.Second
)

// groupMember keeps the replica a member of its consumer group and commits how far it has read, so that
// Kafka's tools show the group and its lag. Nothing waits for it: the replica reads all partitions whatever
// the group assigns, so a coordinator that is unreachable delays no record.
type groupMember struct {
	group     string
	cluster   *broker.Cluster
	topics    func() map[string]int       // the topics whose offsets are committed, with their numbers of partitions
	positions iter.Seq2[Partition, int64] // the partitions read, each with the offset to read next
	health    *groupHealth
	metrics   *metrics
	log       *slog.Logger
}

func newGroupMember(health *groupHealth, cluster *broker.Cluster, metrics *metrics, topics func() map[string]int, positions iter.Seq2[Partition, int64]) *groupMember {
	return &groupMember{group: health.group, cluster: cluster, topics: topics, positions: positions, health: health, metrics: metrics, log: health.log}
}

// run joins the group, as one member after another, until ctx ends. Then it commits and leaves.
func (m *groupMember) run(ctx context.Context) {
	for ctx.Err() == nil {
		topics := m.topics()
		if len(topics) == 0 {
			pause(ctx, groupBackoff)
			continue
		}
		if err := m.join(ctx, topics); err != nil && ctx.Err() == nil {
			m.health.recordFailure(err)
			pause(ctx, groupBackoff)
		}
	}
}

// join joins the group as a new member and commits in one generation after the other. It returns nil when
// ctx ends, when the topics change or when commits fail, and an error when the member cannot join.
func (m *groupMember) join(ctx context.Context, topics map[string]int) error {
	var mu sync.Mutex
	var assigned map[string][]int
	sticky := balancer{reportMembers: m.warnOfOthers, assigned: func() map[string][]int {
		mu.Lock()
		defer mu.Unlock()
		return assigned
	}}
	group, err := kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{
		ID:               m.group,
		Brokers:          m.cluster.Addresses(), // kafka-go asks only the first that takes a connection
		Topics:           slices.Sorted(maps.Keys(topics)),
		Dialer:           m.cluster.GroupDialer(),
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
		m.metrics.generations.Inc()
		m.metrics.rebalances.Observe(time.Since(begun).Seconds())
		if !m.commitInGeneration(ctx, gen, topics) {
			return nil
		}
	}
}

// warnOfOthers logs that the group has other members than this replica.
func (m *groupMember) warnOfOthers(members int) {
	m.log.Warn("another process uses the name of this replica; give each process its own --replica",
		"group", m.group, "members", members)
}

// commitInGeneration commits at intervals until the generation ends, and then once more. It returns true
// if the member may join the next generation, and false if the membership is over: ctx ended, commits
// fail, or the topics changed.
func (m *groupMember) commitInGeneration(ctx context.Context, gen *kafka.Generation, topics map[string]int) bool {
	ended, left := make(chan struct{}), make(chan struct{})
	defer close(left)
	gen.Start(func(generation context.Context) {
		<-generation.Done()
		close(ended)
		<-left // kafka-go joins the next generation only after this, and then this one can commit no more
	})
	committed := make(map[Partition]int64)
	failures := 0
	ticker := time.NewTicker(commitInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ended:
			_ = m.commit(gen, committed)
			return true
		case <-ctx.Done():
			_ = m.commit(gen, committed)
			return false
		case <-ticker.C:
			if err := m.commit(gen, committed); err == nil {
				failures = 0
				m.health.recordSuccess()
			} else if failures++; failures == commitFailures {
				return false
			}
			if !maps.Equal(topics, m.topics()) {
				return false
			}
		}
	}
}

// commit commits the positions of the partitions assigned to this member that moved since committed, and
// updates committed. It counts every failure, and reports it to m.health, which decides whether to log it. An
// error that says that the group has moved on to another generation is not reported: this member or another
// member commits the partitions in that generation.
func (m *groupMember) commit(gen *kafka.Generation, committed map[Partition]int64) error {
	assigned := func(p Partition) bool {
		return slices.ContainsFunc(gen.Assignments[p.Topic], func(a kafka.PartitionAssignment) bool { return a.ID == int(p.ID) })
	}
	offsets := make(map[string]map[int]int64)
	moved := make(map[Partition]int64)
	for p, next := range m.positions {
		if last, ok := committed[p]; !assigned(p) || ok && last == next {
			continue
		}
		if offsets[p.Topic] == nil {
			offsets[p.Topic] = make(map[int]int64)
		}
		offsets[p.Topic][int(p.ID)] = next
		moved[p] = next
	}
	if len(offsets) == 0 {
		return nil
	}
	if err := gen.CommitOffsets(offsets); err != nil {
		m.metrics.commits.WithLabelValues(resultError).Inc()
		err = fmt.Errorf("commit: %w", err)
		if !isOldGeneration(err) {
			m.health.recordFailure(err)
		}
		return err
	}
	m.metrics.commits.WithLabelValues(resultOK).Inc()
	maps.Copy(committed, moved)
	return nil
}
