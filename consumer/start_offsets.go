package consumer

import (
	"context"
	"log/slog"
	"slices"

	"herald/consumer/broker"
)

// pendingStart is a partition that will be read once its leader has reported the offset to start at.
type pendingStart struct {
	Partition
	topic   *topicState
	topicID [16]byte
	place
	startAt int64 // broker.EarliestOffset or broker.LatestOffset
}

// startOffsets asks leaders where to start reading partitions. One request asks a leader about all of its
// partitions, and the next request waits for its response. So a leader that does not answer has one request
// under way, and delays only its own partitions.
//
// A topic may change while its leader is asked. A start counts only while topicState.starts still holds it.
// Only the goroutine of the [topicPoller] uses startOffsets, except for the channel answers.
type startOffsets struct {
	cluster *broker.Cluster
	topics  *topicRegistry
	reader  *liveReader
	metrics *metrics
	log     *slog.Logger

	wanted  map[int32][]*pendingStart // by leader, for its next request
	asked   map[int32]bool            // leaders with a request under way
	answers chan startOffsetsAnswer
}

// startOffsetsAnswer is a leader's answer about partitions.
type startOffsetsAnswer struct {
	leader  int32
	starts  []*pendingStart
	offsets map[Partition]int64 // the offsets that the leader reported; nil if the leader did not answer
	err     error
}

func newStartOffsets(cluster *broker.Cluster, topics *topicRegistry, reader *liveReader, m *metrics, log *slog.Logger) *startOffsets {
	return &startOffsets{
		cluster: cluster, topics: topics, reader: reader, metrics: m, log: log,
		wanted: make(map[int32][]*pendingStart), asked: make(map[int32]bool), answers: make(chan startOffsetsAnswer),
	}
}

// add schedules a question about the partition, unless the same leader is asked about it already. An answer
// of another leader is ignored from now on.
func (s *startOffsets) add(start *pendingStart) {
	if was := start.topic.starts[start.ID]; was != nil && was.leader == start.leader {
		return
	}
	if start.topic.starts == nil {
		start.topic.starts = make(map[int32]*pendingStart)
	}
	start.topic.starts[start.ID] = start
	s.wanted[start.leader] = append(s.wanted[start.leader], start)
}

// isCurrent reports whether the partition still has to start by the answer of this leader.
func (s *startOffsets) isCurrent(start *pendingStart) bool {
	return start.topic.starts[start.ID] == start && s.topics.isPresent(start.topic)
}

// askLeaders sends a request to each leader that has partitions to start and no request under way. The
// requests end with ctx.
func (s *startOffsets) askLeaders(ctx context.Context) {
	for leader, starts := range s.wanted {
		if s.asked[leader] {
			continue
		}
		delete(s.wanted, leader)
		starts = slices.DeleteFunc(starts, func(start *pendingStart) bool { return !s.isCurrent(start) })
		if len(starts) == 0 {
			continue
		}
		query := make(map[Partition]int64, len(starts))
		for _, start := range starts {
			query[start.Partition] = start.startAt
		}
		s.asked[leader] = true
		s.reader.wg.Go(func() {
			offsets, err := s.cluster.ListLeaderOffsets(ctx, leader, query)
			select {
			case s.answers <- startOffsetsAnswer{leader, starts, offsets, err}:
			case <-ctx.Done():
			}
		})
	}
}

// acceptAnswer starts reading the partitions whose offsets the leader reported. It schedules a metadata
// request for the topics of the other partitions.
func (s *startOffsets) acceptAnswer(answer startOffsetsAnswer) {
	delete(s.asked, answer.leader)
	if answer.err != nil {
		s.metrics.errors.WithLabelValues(errorKind(answer.err)).Inc()
		s.log.Debug("list offsets failed; retrying", "broker", answer.leader, "partitions", len(answer.starts), "error", answer.err)
	}
	if answer.offsets == nil {
		first := answer.starts[0]
		s.reader.recordFailure(answer.leader, len(answer.starts), Position{first.Partition, first.startAt}, answer.err)
	} else {
		s.reader.brokerLog.recordAnswer(answer.leader)
	}
	incomplete := make(map[*topicState]bool)
	for _, start := range answer.starts {
		if !s.isCurrent(start) {
			continue
		}
		delete(start.topic.starts, start.ID)
		next, ok := answer.offsets[start.Partition]
		if ok {
			s.reader.beginPartition(start, next)
		}
		incomplete[start.topic] = incomplete[start.topic] || !ok
	}
	for t, again := range incomplete {
		if again {
			s.topics.askLater(t, answer.err)
		} else {
			s.settleIfRead(t)
		}
	}
}

// settleIfRead ends the wait of Joins for the topic if all of its partitions are read.
func (s *startOffsets) settleIfRead(t *topicState) {
	for i := range t.leaders { // only this goroutine writes leaders
		if s.reader.livePartition(Partition{Topic: t.name, ID: int32(i)}) == nil {
			return
		}
	}
	s.topics.settle(t)
}
