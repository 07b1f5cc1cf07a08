package consumer

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"herald/consumer/broker"
)

const metadataRetry = 250 * time.Millisecond // between metadata requests that fail

// topicPoller keeps the partitions that the replica reads in line with the cluster's metadata: it starts
// reading topics that appear and partitions that are added, and stops reading topics that are deleted or
// that no user needs any more. One goroutine runs it.
type topicPoller struct {
	cluster *broker.Cluster
	topics  *topicRegistry
	reader  *liveReader
	contact *contact
	starts  *startOffsets
	metrics *metrics
	log     *slog.Logger
	idless  bool // the log says that topics have no ids
}

func newTopicPoller(cluster *broker.Cluster, topics *topicRegistry, reader *liveReader, contact *contact, m *metrics, log *slog.Logger) *topicPoller {
	return &topicPoller{
		cluster: cluster, topics: topics, reader: reader, contact: contact, metrics: m, log: log,
		starts: newStartOffsets(cluster, topics, reader, m, log),
	}
}

// run polls metadata until ctx ends. It returns an error only if the cluster can never be read
// ([broker.ErrUnsupported]).
func (p *topicPoller) run(ctx context.Context) error {
	checked := false
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.topics.wake:
		case <-timer.C:
		case answer := <-p.starts.answers:
			p.starts.acceptAnswer(answer)
		}
		if !checked {
			err := p.cluster.CheckVersions(ctx)
			if errors.Is(err, broker.ErrUnsupported) {
				return err
			}
			checked = err == nil
			p.contact.record(ctx, err)
		}
		next := metadataRetry
		if checked {
			next = p.poll(ctx)
		}
		timer.Reset(next)
		pause(ctx, 5*time.Millisecond) // Joins that come together share a request
	}
}

// poll sends the metadata request that is due, acts on the response, and returns when to poll again.
func (p *topicPoller) poll(ctx context.Context) time.Duration {
	for name, partitions := range p.topics.removeDeparted() {
		p.reader.endTopic(name, partitions)
	}
	p.topics.mu.Lock()
	names, all := p.topics.schedule.takeDue(time.Now())
	p.topics.mu.Unlock()
	if len(names) > 0 || all {
		before := p.samplePositions(names)
		found, err := p.cluster.FetchMetadata(ctx, names, false)
		p.contact.record(ctx, err)
		if err != nil {
			p.topics.mu.Lock()
			p.topics.schedule.returnUnanswered(names, all)
			p.topics.mu.Unlock()
			pause(ctx, metadataRetry) // even if somebody wakes the poller
			return 0
		}
		p.adoptAll(names, found, before)
	}
	p.starts.askLeaders(ctx)
	p.topics.mu.Lock()
	defer p.topics.mu.Unlock()
	return p.topics.schedule.untilDue(time.Now())
}

// samplePositions returns how far the named topics that have [Homes] have been read.
func (p *topicPoller) samplePositions(names []string) map[string]readSample {
	samples := make(map[string]readSample)
	for _, name := range names {
		if p.topics.homes[name] == nil {
			continue
		}
		p.topics.mu.Lock()
		read := make([]int64, len(p.topics.states[name].leaders))
		p.topics.mu.Unlock()
		for i := range read {
			if live := p.reader.livePartition(Partition{Topic: name, ID: int32(i)}); live != nil {
				read[i], _ = live.position()
			}
		}
		samples[name] = readSample{time.Now(), read}
	}
	return samples
}

// adoptAll acts on the metadata of the named topics. before holds how far the topics had been read before
// the request.
func (p *topicPoller) adoptAll(names []string, found map[string]broker.TopicMetadata, before map[string]readSample) {
	for _, name := range names {
		m, ok := found[name]
		complete := ok && p.adopt(name, &m, before[name])
		p.topics.mu.Lock()
		if t := p.topics.states[name]; t != nil && (!complete || t.missing) {
			p.topics.schedule.addLater(t)
		}
		p.topics.mu.Unlock()
	}
}

// adopt acts on the metadata of one topic. It returns false if the cluster has to be asked about the topic
// again soon.
func (p *topicPoller) adopt(name string, m *broker.TopicMetadata, before readSample) (complete bool) {
	read := p.countRead(name)
	shrinking := p.topics.isShorter(name, m, read) && p.reader.hasGonePartition(name, len(m.Leaders), read)
	p.topics.mu.Lock()
	t := p.topics.states[name]
	switch {
	case t == nil: // the last user left meanwhile
		p.topics.mu.Unlock()
		return true
	case shrinking && !t.countShorterLocked():
		p.topics.mu.Unlock()
		return false
	case m.Err != nil:
		complete := p.adoptErrorLocked(t, m)
		p.topics.mu.Unlock()
		return complete
	case t.isOutdatedLocked(m, read):
		p.topics.mu.Unlock()
		return true
	case len(m.Leaders) == 0, t.mustConfirmLocked(m, p.topics.homes[name] != nil):
		p.topics.mu.Unlock()
		return false
	}
	startAt := int64(broker.LatestOffset)
	if t.known {
		startAt = broker.EarliestOffset
	}
	recreated := t.isRecreatedLocked(m)
	if recreated {
		t.forgetLocked()
	}
	old := len(t.leaders)
	doubtful := t.missing || t.missed || len(m.Leaders) != old // see recreation.go
	p.topics.identifyLocked(t, m.ID)
	t.leaders, t.epochs, t.missing, t.missed, t.failed = m.Leaders, m.Epochs, false, false, ""
	t.partial = t.partial || recreated || read < len(m.Leaders) // until settleIfRead finds all of them
	t.denied = t.denied && old > 0                              // a topic with live partitions is allowed again by its next records
	p.topics.mu.Unlock()
	p.noteNaming(t)
	if h := p.topics.homes[name]; h != nil { // before the topic's partitions begin: streams look up the homes when a partition begins
		h.RecordPartitions(t.id, len(m.Leaders), before.asked, before.read)
	}
	switch {
	case recreated:
		p.log.Warn("topic was deleted and created again", "topic", name)
		p.reader.endTopic(name, old)
	case old > 0 && len(m.Leaders) > old:
		p.log.Info("partitions were added to the topic", "topic", name, "from", old, "to", len(m.Leaders))
	}
	return p.adoptLeaders(t, startAt, doubtful)
}

// noteNaming logs once that the cluster reports no topic ids.
func (p *topicPoller) noteNaming(t *topicState) {
	if !p.idless && IsLocalID(t.id) {
		p.idless = true
		p.log.Warn("brokers report no topic ids: a topic that is deleted and created again is found in most cases, not in all", "topic", t.name)
	}
}

// countRead returns the number of the topic's partitions, counted from the first to the last that is read.
func (p *topicPoller) countRead(name string) int {
	p.topics.mu.Lock()
	count := 0
	if t := p.topics.states[name]; t != nil {
		count = len(t.leaders)
	}
	p.topics.mu.Unlock()
	for count > 0 && p.reader.livePartition(Partition{Topic: name, ID: int32(count - 1)}) == nil {
		count--
	}
	return count
}

// adoptLeaders moves the topic's live partitions to their leaders, and asks the leaders of the other
// partitions for their start offsets. It returns false while a partition has no leader.
func (p *topicPoller) adoptLeaders(t *topicState, startAt int64, doubtful bool) (complete bool) {
	complete = true
	for i, leader := range t.leaders { // needs no lock: only this goroutine writes leaders, epochs and ids
		partition := Partition{Topic: t.name, ID: int32(i)}
		switch live := p.reader.livePartition(partition); {
		case live != nil:
			if doubtful {
				live.doubt()
			}
			p.reader.assign(live, t.placeLocked(i))
			complete = complete && leader >= 0
		case leader < 0:
			complete = false
		default:
			p.starts.add(&pendingStart{partition, t, t.id, t.placeLocked(i), startAt})
		}
	}
	p.starts.settleIfRead(t)
	return complete
}

// adoptErrorLocked notes why a topic cannot be read. It returns true if the next request about all topics is
// soon enough to ask again.
func (p *topicPoller) adoptErrorLocked(t *topicState, m *broker.TopicMetadata) bool {
	if m.Missing() {
		if t.route.Kind != PerUser && !t.missing && !t.missed {
			t.missed = true
			return false
		}
		t.missing, t.absent, t.starts, t.partial = true, time.Now(), nil, false
		if t.route.Kind != PerUser && t.failed == "" {
			t.failed = m.Err.Error()
			p.log.Warn("topic does not exist; it will be read from its start once it does", "topic", t.name)
		}
		t.settleLocked(true)
		return true
	}
	p.metrics.errors.WithLabelValues(errorKind(m.Err)).Inc()
	repeated := t.failed == m.Err.Error()
	t.failed = m.Err.Error()
	if errorKind(m.Err) != errorDenied {
		if !repeated {
			p.log.Error("topic cannot be read; retrying", "topic", t.name, "error", m.Err)
		}
		return false
	}
	p.topics.denyLocked(t, m.Err)
	t.settleLocked(false)
	return true
}
