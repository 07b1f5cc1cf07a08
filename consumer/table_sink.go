package consumer

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"
)

// replayRetry is the pause before a replay for a table is tried again.
const replayRetry = time.Second

// tableSink is the [Sink] of a [TableReader]. It applies the records read live. For each partition it
// also replays the records before them.
type tableSink struct {
	table  Table
	replay func(ctx context.Context, user string, ranges []Range, fn func(*Range, *Record) bool)
	log    *slog.Logger
	begun  chan struct{} // signals that a partition began

	mu         sync.Mutex
	ctx        context.Context //nolint:containedctx // Run's: Begin starts replays, and a Sink is given no context
	wg         sync.WaitGroup  // of replays
	topicID    [16]byte        // the topic that is read
	replaced   [][16]byte      // topics read before it, which count until it is read
	partitions map[Partition]*tablePartition
}

// tablePartition is how far a partition is read.
type tablePartition struct {
	topicID  [16]byte
	replayed bool  // the records before live reading were applied
	next     int64 // the next offset to be read live
	end      int64 // the partition's end when it was asked for; -1: it was not yet
}

func newTableSink(table Table) *tableSink {
	return &tableSink{table: table, begun: make(chan struct{}, 1), partitions: make(map[Partition]*tablePartition)}
}

// start lets replays run until ctx ends.
func (s *tableSink) start(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ctx = ctx
}

func (s *tableSink) currentTopic() [16]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.topicID
}

// takeReplaced returns the topics that the topic with that id replaced, once. It returns none if another
// topic replaced that one meanwhile.
func (s *tableSink) takeReplaced(topicID [16]byte) [][16]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if topicID != s.topicID {
		return nil
	}
	replaced := s.replaced
	s.replaced = nil
	return replaced
}

// Begin implements [Sink].
func (s *tableSink) Begin(p Partition, topicID [16]byte, next int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if topicID != s.topicID {
		if s.topicID != ([16]byte{}) {
			s.replaced = append(s.replaced, s.topicID)
		}
		s.topicID = topicID
	}
	part := &tablePartition{topicID: topicID, next: next, end: -1}
	s.partitions[p] = part
	ctx := s.ctx
	s.wg.Go(func() {
		replayed := s.replayBefore(ctx, Range{Partition: p, TopicID: topicID, To: next})
		s.mu.Lock()
		part.replayed = replayed
		s.mu.Unlock()
	})
	select {
	case s.begun <- struct{}{}:
	default:
	}
}

// replayBefore applies the records of a partition that lie before live reading, and tries again until it
// can. It returns false if the records cannot be had any more: ctx ended, or the topic was deleted.
func (s *tableSink) replayBefore(ctx context.Context, left Range) bool {
	for {
		ranges := []Range{left}
		s.replay(ctx, "", ranges, func(_ *Range, rec *Record) bool {
			s.table.Apply(left.Partition, left.TopicID, rec)
			return true
		})
		left = ranges[0]
		err := left.Err
		left.Err = nil
		lost, outOfRange := errors.AsType[*OutOfRangeError](err)
		bad, unreadable := errors.AsType[*UnreadableError](err)
		switch {
		case outOfRange && left.Next < lost.Start: // the log no longer begins at 0, or retention was faster
			left.Next = lost.Start
			continue
		case unreadable:
			s.table.Lose(left.Partition, Gap{From: bad.Offset, To: bad.Next, Reason: GapUnreadable})
			left.Next = bad.Next
			continue
		case err == nil, outOfRange && left.Next >= lost.End: // the log was cut, and holds no more
			s.table.Applied()
			return true
		case !s.isCurrent(left.Partition, left.TopicID):
			return false
		}
		s.log.Warn("replay of a topic failed; retrying", "topic", left.Topic, "partition", left.ID, "error", err)
		select {
		case <-time.After(replayRetry):
		case <-ctx.Done():
			return false
		}
	}
}

// isCurrent reports whether the partition is still one of the topic with that id.
func (s *tableSink) isCurrent(p Partition, topicID [16]byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	part := s.partitions[p]
	return part != nil && part.topicID == topicID
}

// Deliver implements [Sink].
func (s *tableSink) Deliver(p Partition, records []Record, next int64) {
	s.mu.Lock()
	part := s.partitions[p]
	s.mu.Unlock()
	if part == nil { // it has ended
		return
	}
	for i := range records {
		s.table.Apply(p, part.topicID, &records[i])
	}
	s.mu.Lock()
	part.next = next
	s.mu.Unlock()
	if len(records) > 0 {
		s.table.Applied()
	}
}

// Gap implements [Sink].
func (s *tableSink) Gap(p Partition, gap Gap) {
	s.table.Lose(p, gap)
	s.mu.Lock()
	defer s.mu.Unlock()
	if part := s.partitions[p]; part != nil {
		part.next, part.end = gap.To, -1 // the log may be shorter now
	}
}

// End implements [Sink].
func (s *tableSink) End(p Partition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.partitions, p)
}
