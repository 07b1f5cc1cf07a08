package consumer

import (
	"context"
	"errors"
	"iter"
	"slices"
	"time"

	"herald/consumer/broker"
)

const metadataRetry = 250 * time.Millisecond // between requests after errors

// topicState is a topicState that is read or waited for. All but what newTopic sets, and begin, is guarded by
// Consumer.mu.
type topicState struct {
	name    string
	route   *Route
	settled chan struct{} // closed once the topic is known, or is known not to be for us

	id      [16]byte
	past    [][16]byte // ids it had before: an outdated broker may still name them
	leaders []int32
	known   bool // the cluster said once what the topic is, and all of it was read from then on
	missing bool
	failed  string // the last error logged
	denied  bool   // an access control list keeps us from reading it, and that was logged

	users int // Joins, for a per-user topic
	left  time.Time

	asked  time.Time // when the cluster was asked about it last
	queued bool      // it waits for its turn in due

	begin map[int32]*pendingStart // by partition: those to begin when their leaders answer; used by runTopics only
}

func newTopicState(name string, route *Route) *topicState {
	return &topicState{name: name, route: route, settled: make(chan struct{})}
}

// settle lets go of those who wait for the topic. Consumer.mu is held.
func (t *topicState) settle(known bool) {
	t.known = t.known || known
	select {
	case <-t.settled:
	default:
		close(t.settled)
	}
}

// reason is why the topic is not read, as the end of a sentence. Consumer.mu is held.
func (t *topicState) reason() string {
	if t.failed == "" {
		return ""
	}
	return ": " + t.failed
}

// runTopics keeps what is read in line with what the cluster has, until ctx ends.
func (c *Consumer) runTopics(ctx context.Context) error {
	checked := false
	starts := newStartOffsets(c)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.wake:
		case <-timer.C:
		case got := <-starts.answers:
			starts.take(got)
		}
		if !checked {
			err := c.cluster.CheckVersion(ctx)
			if errors.Is(err, broker.ErrUnsupported) {
				return err
			}
			checked = err == nil
			c.contact(ctx, err)
		}
		next := metadataRetry
		if checked {
			next = c.poll(ctx, starts)
		}
		timer.Reset(next)
		pause(ctx, 5*time.Millisecond) // lets a burst of Joins share a request
	}
}

// poll asks for the metadata that is due, acts on it and says when to come again.
func (c *Consumer) poll(ctx context.Context, starts *startOffsets) time.Duration {
	c.retire()
	c.mu.Lock()
	names, all := c.schedule.take(time.Now())
	c.mu.Unlock()
	if len(names) > 0 || all {
		before := c.sample(names)
		found, err := c.cluster.FetchMetadata(ctx, names, false)
		c.contact(ctx, err)
		if err != nil {
			c.mu.Lock()
			c.schedule.failed(names, all)
			c.mu.Unlock()
			pause(ctx, metadataRetry) // whoever pokes meanwhile
			return 0
		}
		c.adopt(names, found, before, starts)
	}
	starts.ask(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.schedule.wait(time.Now())
}

// contact keeps and tells whether Kafka answers: when that changes, and once a minute while it does
// not.
func (c *Consumer) contact(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	c.metrics.contact(err)
	if err == nil {
		if c.away.Swap(nil) != nil {
			c.log.Info("kafka answers", "brokers", c.cfg.Brokers)
			c.awayTold = time.Time{}
		}
		return
	}
	c.away.Store(&err)
	if time.Since(c.awayTold) >= time.Minute {
		c.awayTold = time.Now()
		c.log.Warn("kafka does not answer; streams stay open and it is tried again", "brokers", c.cfg.Brokers, "error", err)
	}
}

// retire stops reading the topics of users who have been gone for a while.
func (c *Consumer) retire() {
	gone := make(map[string]int) // how many partitions each had
	c.mu.Lock()
	for len(c.departures) > 0 && time.Since(c.departures[0].at) > c.reader.userLinger {
		d := c.departures[0]
		c.departures = c.departures[1:]
		t := d.topic
		if t.users == 0 && t.left.Equal(d.at) { // nobody came back
			delete(c.topics, t.name)
			gone[t.name] = len(t.leaders)
		}
	}
	c.mu.Unlock()
	for name, partitions := range gone {
		c.end(name, partitions)
	}
}

// adopt brings the reading in line with what the cluster said of the named topics. before is how far
// they had been read before it was asked. Partitions to begin are added to starts.
func (c *Consumer) adopt(names []string, found map[string]broker.TopicMetadata, before map[string]sample, starts *startOffsets) {
	for _, name := range names {
		m, ok := found[name]
		complete := ok && c.meet(name, &m, before[name], starts)
		c.mu.Lock()
		if t := c.topics[name]; t != nil && (!complete || t.missing) {
			c.schedule.later(t)
		}
		c.mu.Unlock()
	}
}

// meet takes in what the cluster said of one topic. It returns false if the topic is to be asked about
// again soon.
func (c *Consumer) meet(name string, m *broker.TopicMetadata, before sample, starts *startOffsets) bool {
	c.mu.Lock()
	t := c.topics[name]
	if t == nil { // left meanwhile
		c.mu.Unlock()
		return true
	}
	if m.Err != nil {
		complete := c.absent(t, m)
		c.mu.Unlock()
		return complete
	}
	which := int64(broker.LatestOffset)
	if t.known { // partitions seen first after the topic was known are read from their start
		which = broker.EarliestOffset
	}
	recreated := t.id != ([16]byte{}) && t.id != m.ID
	if slices.Contains(t.past, m.ID) || len(t.leaders) > len(m.Leaders) && !recreated {
		c.mu.Unlock() // an outdated answer
		return true
	}
	old := len(t.leaders)
	if recreated {
		t.past, t.begin = append(t.past, t.id), nil
	}
	t.id, t.leaders, t.missing, t.failed = m.ID, m.Leaders, false, ""
	t.denied = t.denied && old > 0 // what was read before says itself when it is read again
	c.mu.Unlock()
	if h := c.homes[name]; h != nil { // before partitions begin: streams look then
		h.Saw(m.ID, len(m.Leaders), before.asked, before.read)
	}

	switch {
	case recreated:
		c.log.Warn("topic was deleted and created again", "topic", name)
		c.end(name, old)
	case old > 0 && len(m.Leaders) > old:
		c.log.Info("partitions were added to the topic", "topic", name, "from", old, "to", len(m.Leaders))
	}
	complete := true
	for i, leader := range m.Leaders {
		p := Partition{Topic: name, ID: int32(i)}
		switch f := c.reader.find(p); {
		case f != nil:
			c.reader.assign(f, leader)
			complete = complete && leader >= 0
		case leader < 0:
			complete = false
		default:
			starts.add(&pendingStart{p, t, m.ID, leader, which})
		}
	}
	c.settleRead(t)
	return complete
}

// absent deals with a topic that cannot be read. c.mu is held.
func (c *Consumer) absent(t *topicState, m *broker.TopicMetadata) bool {
	if m.Missing() {
		t.missing, t.begin = true, nil
		if t.route.Kind != PerUser && t.failed == "" {
			t.failed = m.Err.Error()
			c.log.Warn("topic does not exist; it will be read from its start once it does", "topic", t.name)
		}
		t.settle(true)
		return true
	}
	c.metrics.errors.WithLabelValues(kindOf(m.Err)).Inc()
	again := t.failed == m.Err.Error()
	t.failed = m.Err.Error()
	if kindOf(m.Err) != errorDenied {
		if !again {
			c.log.Error("topic cannot be read; it is tried again", "topic", t.name, "error", m.Err)
		}
		return false
	}
	c.deny(t, m.Err)
	t.settle(false)
	return true // it will last: the next poll of all topics asks again
}

// deny notes and tells that an access control list keeps us from reading a topic: once, not for
// each partition. c.mu is held.
func (c *Consumer) deny(t *topicState, err error) {
	if !t.denied {
		t.denied = true
		c.log.Error("topic may not be read; it is tried again", "topic", t.name, "error", err)
	}
}

// denied is [Consumer.deny] of the topic called name.
func (c *Consumer) denied(name string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t := c.topics[name]; t != nil {
		c.deny(t, err)
	}
}

// allowed notes that the topic is read again.
func (c *Consumer) allowed(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t := c.topics[name]; t != nil && t.denied {
		t.denied = false
		c.log.Info("topic may be read again", "topic", name)
	}
}

// commitTopics returns the topics that are always read, exist and may be read, with their numbers of
// partitions: the topics whose offsets the consumer group commits. With a topic that does not exist the
// group's leader, as kafka-go has it, assigns nothing at all. A commit of a topic that may not be read
// would fail.
func (c *Consumer) commitTopics() map[string]int {
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

// topicID returns the id of a topic as it is now, zero if it is not known.
func (c *Consumer) topicID(name string) (id [16]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t := c.topics[name]; t != nil {
		id = t.id
	}
	return id
}

// partitionsOf returns the partitions of the named topics that exist, each with the id of its topic.
func (c *Consumer) partitionsOf(names iter.Seq[string]) map[Partition][16]byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	topicIDs := make(map[Partition][16]byte)
	for name := range names {
		if t := c.topics[name]; t != nil && !t.missing {
			for i := range t.leaders {
				topicIDs[Partition{Topic: name, ID: int32(i)}] = t.id
			}
		}
	}
	return topicIDs
}
