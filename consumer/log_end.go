package consumer

import "time"

// LogEnd is where the log of a partition begins and ends, as far as a replica knows from the answers to its fetches.
type LogEnd struct {
	Start, End int64     // End is the last stable offset: records of open transactions do not count
	Answered   time.Time // when a broker last said so; zero: the partition is not read
}

// LogEnds returns what the replica knows of the logs of a topic, by partition. It does not ask Kafka. A topic that is not
// read, or does not exist, has no partitions. LogEnds waits for deliveries under way.
func (c *Consumer) LogEnds(topic string) []LogEnd {
	ends := make([]LogEnd, c.topics.countRead(topic))
	for id := range ends {
		if p := c.reader.livePartition(Partition{Topic: topic, ID: int32(id)}); p != nil {
			ends[id] = p.logEndNow()
		}
	}
	return ends
}

// countRead returns the number of partitions of a topic that exists; otherwise 0.
func (t *topicRegistry) countRead(topic string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	state := t.states[topic]
	if state == nil || state.missing {
		return 0
	}
	return len(state.leaders)
}

// logEndNow returns what the replica knows of the partition's log. While live reading has not come to the end of the log,
// each answer brings records, so that next moves.
func (p *livePartition) logEndNow() LogEnd {
	p.mu.Lock()
	defer p.mu.Unlock()
	answered := p.moved
	if at := time.Unix(0, p.endAt.Load()); at.After(answered) {
		answered = at
	}
	return LogEnd{Start: p.logStart, End: max(p.logEnd, p.next), Answered: answered}
}
