package consumer

import (
	"context"
	"slices"
	"time"
)

// pendingStart is a partition that is to be read once its leader has said from which offset.
type pendingStart struct {
	Partition
	topic   *topicState
	topicID [16]byte
	leader  int32
	which   int64 // the special offset to begin at
}

// startOffsets are the partitions that leaders are asked about. A leader is asked about all of its
// partitions at a time, and again once it has answered: one that does not answer has one request under
// way and holds up its own partitions only.
//
// What becomes of a topic meanwhile shows when the answer comes: only what topic.begin still has is
// begun. It is used by the goroutine of runTopics only, but for answers.
type startOffsets struct {
	consumer *Consumer
	wanted   map[int32][]*pendingStart // by leader, to be asked about next
	asked    map[int32]bool            // leaders with a request under way
	answers  chan offsetsAnswer
}

// offsetsAnswer is what a leader said of partitions.
type offsetsAnswer struct {
	leader  int32
	about   []*pendingStart
	offsets map[Partition]int64 // those that it has told; nil if it did not answer
	err     error
}

func newStartOffsets(c *Consumer) *startOffsets {
	return &startOffsets{consumer: c, wanted: make(map[int32][]*pendingStart), asked: make(map[int32]bool), answers: make(chan offsetsAnswer)}
}

// add has the partition begin, unless its leader is asked about it already. Another leader that was
// asked is not listened to any more.
func (s *startOffsets) add(b *pendingStart) {
	if was := b.topic.begin[b.ID]; was != nil && was.leader == b.leader {
		return
	}
	if b.topic.begin == nil {
		b.topic.begin = make(map[int32]*pendingStart)
	}
	b.topic.begin[b.ID] = b
	s.wanted[b.leader] = append(s.wanted[b.leader], b)
}

// current says whether the partition is still to begin, by what this leader says.
func (s *startOffsets) current(b *pendingStart) bool {
	return b.topic.begin[b.ID] == b && s.consumer.current(b.topic)
}

// ask asks the leaders that are not being asked. The requests end with ctx.
func (s *startOffsets) ask(ctx context.Context) {
	c := s.consumer
	for leader, list := range s.wanted {
		if s.asked[leader] {
			continue
		}
		delete(s.wanted, leader)
		list = slices.DeleteFunc(list, func(b *pendingStart) bool { return !s.current(b) })
		if len(list) == 0 {
			continue
		}
		which := make(map[Partition]int64, len(list))
		for _, b := range list {
			which[b.Partition] = b.which
		}
		s.asked[leader] = true
		c.reader.wg.Go(func() {
			offsets, err := c.cluster.ListLeaderOffsets(ctx, leader, which)
			select {
			case s.answers <- offsetsAnswer{leader, list, offsets, err}:
			case <-ctx.Done():
			}
		})
	}
}

// take begins the partitions that the leader told the offsets of. The others' topics are asked about
// again.
func (s *startOffsets) take(got offsetsAnswer) {
	c := s.consumer
	delete(s.asked, got.leader)
	if got.err != nil {
		c.metrics.errors.WithLabelValues(kindOf(got.err)).Inc()
		c.log.Debug("list offsets", "broker", got.leader, "partitions", len(got.about), "error", got.err)
	}
	if got.offsets == nil {
		c.reader.failed(got.leader, len(got.about), Position{got.about[0].Partition, got.about[0].which}, got.err)
	} else {
		c.reader.answered(got.leader)
	}
	again := make(map[*topicState]bool)
	for _, b := range got.about {
		if !s.current(b) {
			continue
		}
		delete(b.topic.begin, b.ID)
		next, ok := got.offsets[b.Partition]
		if ok {
			c.begin(b, next)
		}
		again[b.topic] = again[b.topic] || !ok
	}
	for t, is := range again {
		if is {
			c.later(t)
		} else {
			c.settleRead(t)
		}
	}
}

// begin reads a partition from next on.
func (c *Consumer) begin(b *pendingStart, next int64) {
	route := b.topic.route
	f := &livePartition{Partition: b.Partition, route: route, owner: route.owner(b.Topic), topicID: b.topicID, next: next, end: next, moved: time.Now()}
	c.sink.Begin(b.Partition, b.topicID, next)
	c.reader.add(f)
	c.reader.assign(f, b.leader)
}

// end stops reading the partitions of a topic that had so many.
func (c *Consumer) end(name string, partitions int) {
	for i := range partitions {
		p := Partition{Topic: name, ID: int32(i)}
		if c.reader.find(p) != nil {
			c.reader.remove(p)
			c.sink.End(p)
		}
	}
}

// settleRead settles the topic if all of its partitions are read.
func (c *Consumer) settleRead(t *topicState) {
	for i := range t.leaders { // which runTopics changes, who calls this
		if c.reader.find(Partition{Topic: t.name, ID: int32(i)}) == nil {
			return
		}
	}
	c.mu.Lock()
	t.settle(true)
	c.mu.Unlock()
}

// current says whether the topic is read or waited for: not if it was left, even if it was joined again.
func (c *Consumer) current(t *topicState) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.topics[t.name] == t
}

// later has the topic asked about when its turn comes.
func (c *Consumer) later(t *topicState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.schedule.later(t)
}
