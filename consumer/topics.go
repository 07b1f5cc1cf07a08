package consumer

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	metadataInterval = 5 * time.Second        // all topics, when nothing happens
	metadataRetry    = 250 * time.Millisecond // between requests after errors
	missingInterval  = 250 * time.Millisecond // topics waited for
	userLinger       = 10 * time.Second       // a user's topic after the last Leave
	beginConcurrency = 16                     // partitions whose end is asked for at a time
)

// topic is a topic that is read or waited for. All but ready is guarded by Consumer.mu.
type topic struct {
	name  string
	route *Route
	ready chan struct{} // closed once the cluster has said what the topic is and all of it is read

	id      [16]byte
	leaders []int32
	known   bool // the cluster said once whether the topic exists
	missing bool
	failed  string // the last error logged

	users int // Joins, for a per-user topic
	left  time.Time
}

func newTopic(name string, route *Route) *topic {
	return &topic{name: name, route: route, ready: make(chan struct{})}
}

// runTopics keeps what is read in line with what the cluster has, until ctx ends.
func (c *Consumer) runTopics(ctx context.Context) error {
	checked := false
	full := time.Time{}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.wake:
		case <-timer.C:
		}
		if !checked {
			err := c.cluster.check(ctx)
			if errors.Is(err, ErrUnsupportedBroker) {
				return err
			}
			checked = err == nil
			c.contact(ctx, err)
		}
		next := metadataRetry
		if checked {
			next = c.poll(ctx, &full)
		}
		timer.Reset(next)
		pause(ctx, 5*time.Millisecond) // lets a burst of Joins share a request
	}
}

// poll asks for the metadata that is due, acts on it and says when to come again.
func (c *Consumer) poll(ctx context.Context, full *time.Time) time.Duration {
	c.retire()
	names, all := c.due(time.Since(*full) >= metadataInterval)
	if len(names) == 0 && !all {
		return min(metadataInterval, time.Until(full.Add(metadataInterval)))
	}
	found, err := c.cluster.metadata(ctx, names, false)
	c.contact(ctx, err)
	if err != nil {
		c.mu.Lock()
		c.stale = c.stale || all
		c.mu.Unlock()
		pause(ctx, metadataRetry)
		return metadataRetry
	}
	if all {
		*full = time.Now()
	}
	if !c.adopt(ctx, names, found) {
		pause(ctx, metadataRetry)
		c.refresh()
		return metadataRetry
	}
	return c.nextPoll()
}

func (c *Consumer) nextPoll() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.topics {
		if t.missing {
			return missingInterval
		}
	}
	return metadataInterval
}

// due returns the topics to ask about: all of them, or those nothing is known of.
func (c *Consumer) due(timeIsUp bool) (names []string, all bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	all = timeIsUp || c.stale
	c.stale = false
	for name, t := range c.topics {
		if all || !t.known || t.missing {
			names = append(names, name)
		}
	}
	return names, all
}

// contact keeps and tells whether Kafka answers.
func (c *Consumer) contact(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	if was := c.online.Swap(err == nil); was && err != nil {
		c.log.Warn("kafka does not answer; streams stay open and it is tried again", "error", err)
	} else if !was && err == nil {
		c.log.Info("kafka answers", "brokers", c.cfg.Brokers)
	} else if err != nil {
		c.log.Debug("kafka does not answer", "brokers", c.cfg.Brokers, "error", err)
	}
	c.metrics.contact(err)
}

// retire stops reading the topics of users who have been gone for a while.
func (c *Consumer) retire() {
	var gone []Partition
	c.mu.Lock()
	for name, t := range c.topics {
		if t.route.Kind == PerUser && t.users == 0 && time.Since(t.left) > userLinger {
			delete(c.topics, name)
			for i := range t.leaders {
				gone = append(gone, Partition{name, int32(i)})
			}
		}
	}
	c.mu.Unlock()
	for _, p := range gone {
		if c.reader.feed(p) != nil {
			c.reader.remove(p)
			c.sink.End(p)
		}
	}
}

// adopt brings the reading in line with what the cluster said of the named topics. It returns
// false if some of it has to be tried again soon.
func (c *Consumer) adopt(ctx context.Context, names []string, found map[string]topicMetadata) bool {
	var (
		wg    sync.WaitGroup
		slots = make(chan struct{}, beginConcurrency)
		mu    sync.Mutex
		done  = true
	)
	for _, name := range names {
		m, ok := found[name]
		if !ok {
			continue
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if !c.adoptTopic(ctx, name, m) {
				mu.Lock()
				done = false
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return done
}

func (c *Consumer) adoptTopic(ctx context.Context, name string, m topicMetadata) bool {
	c.mu.Lock()
	t := c.topics[name]
	if t == nil { // left meanwhile
		c.mu.Unlock()
		return true
	}
	if m.err != nil {
		ok := c.absent(t, &m)
		c.mu.Unlock()
		return ok
	}
	fresh := t.known // partitions seen first after the topic was known are read from their start
	recreated := t.id != ([16]byte{}) && t.id != m.id
	if len(t.leaders) > len(m.leaders) && !recreated {
		c.mu.Unlock() // an outdated answer
		return true
	}
	t.id, t.leaders, t.missing, t.failed = m.id, m.leaders, false, ""
	c.mu.Unlock()

	complete := true
	for i, leader := range m.leaders {
		p := Partition{name, int32(i)}
		f := c.reader.feed(p)
		switch {
		case f == nil:
			if !c.begin(ctx, t, p, leader, fresh) {
				complete = false
				continue
			}
		case f.topicID != m.id:
			c.begin(ctx, t, p, leader, true)
		default:
			c.reader.assign(f, leader)
		}
	}
	if !complete {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	t.settle()
	return true
}

// settle marks that the cluster has said what the topic is. Consumer.mu is held.
func (t *topic) settle() {
	if !t.known {
		t.known = true
		close(t.ready)
	}
}

// absent deals with a topic that cannot be read. c.mu is held.
func (c *Consumer) absent(t *topic, m *topicMetadata) bool {
	if m.missing() {
		t.missing = true
		if t.route.Kind != PerUser && t.failed == "" {
			t.failed = m.err.Error()
			c.log.Warn("topic does not exist; it will be read from its start once it does", "topic", t.name)
		}
		t.settle()
		return true
	}
	c.metrics.errors.WithLabelValues(kindOf(m.err)).Inc()
	if t.failed != m.err.Error() {
		t.failed = m.err.Error()
		c.log.Error("topic cannot be read; it is tried again", "topic", t.name, "error", m.err)
	}
	return kindOf(m.err) == errorDenied // which will last: the next poll of all topics asks again
}

// begin starts to read a partition: at the end of the log or, if nobody can have seen it before,
// at its start. If the partition was read under another topic id, what came before is a gap.
func (c *Consumer) begin(ctx context.Context, t *topic, p Partition, leader int32, fromStart bool) bool {
	if leader < 0 {
		return false
	}
	which := int64(offsetLatest)
	if fromStart {
		which = offsetEarliest
	}
	next, err := c.cluster.listOffset(ctx, leader, p, which)
	if err != nil {
		c.log.Debug("list offsets", "topic", p.Topic, "partition", p.ID, "error", err)
		return false
	}
	f := &feed{Partition: p, route: t.route, owner: t.route.owner(p.Topic), topicID: t.id, next: next, end: next, moved: time.Now()}
	if old := c.reader.feed(p); old != nil {
		c.reader.remove(p)
		c.log.Warn("topic was deleted and created again", "topic", p.Topic, "partition", p.ID)
		c.sink.Gap(p, t.id, Gap{From: old.next, To: next, Reason: GapRecreated})
	} else {
		c.sink.Begin(p, t.id, next)
	}
	c.reader.add(f)
	c.reader.assign(f, leader)
	return true
}
