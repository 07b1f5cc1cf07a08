package consumer

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// currentFor is how long a broker's answer shows where a log ends. A broker answers a fetch without new records after
// quietMaxWait. The rest is for a busy machine.
const currentFor = 2 * time.Second

// endUnknown stands for a log's end that is not known.
const endUnknown = -1

// IsCurrent reports whether a stream has all records of a topic that Kafka held within the last currentFor. next
// returns how far the stream has come in a partition, and false for a partition that does not concern the stream. The
// topic must have the id topicID, or not exist. A topic that does not exist is current.
//
// The answers to live fetches say where the logs end. A partition is not current while it is not read, while its
// broker does not answer, and while live reading has not come to its end.
func (c *Consumer) IsCurrent(topic string, topicID [16]byte, next func(partition int32) (offset int64, ok bool)) bool {
	now := time.Now()
	partitions, missing := c.topics.countPartitions(topic, topicID, now.Add(-currentFor))
	return missing || partitions > 0 && c.reader.isCurrent(topic, topicID, partitions, next, now)
}

// countPartitions returns the number of partitions of the topic; 0 if the topic has another id. missing says that the
// cluster has reported since that time that the topic does not exist.
func (t *topicRegistry) countPartitions(topic string, topicID [16]byte, since time.Time) (count int, missing bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	state := t.states[topic]
	switch {
	case state == nil:
		return 0, false
	case state.missing:
		return 0, state.absent.After(since)
	case state.id != topicID:
		return 0, false
	}
	return len(state.leaders), false
}

// isCurrent implements [Consumer.IsCurrent] for a topic that exists.
func (r *liveReader) isCurrent(topic string, topicID [16]byte, partitions int, next func(int32) (int64, bool), now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id := range int32(partitions) { //nolint:gosec // a number of partitions
		offset, ok := next(id)
		if !ok {
			continue
		}
		p := r.partitions[Partition{Topic: topic, ID: id}]
		if p == nil || p.topicID != topicID || !p.endsAt(offset, now) {
			return false
		}
	}
	return true
}

// endsAt reports whether the log ended at the offset, or before it, within the last currentFor.
func (p *livePartition) endsAt(offset int64, now time.Time) bool {
	at := p.endAt.Load() // before end: then end is of this time or newer
	end := p.end.Load()
	return end != endUnknown && offset >= end && now.UnixNano()-at < int64(currentFor)
}

// recordEnd records the end of the log that an answer reports, once the records of the answer are delivered. The end is
// unknown to streams while live reading has not come to it.
func (p *livePartition) recordEnd(end int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.next < end {
		end = endUnknown
	}
	p.end.Store(end)
}

// confirmEnds records when the broker answered a fetch of the partitions. The answer to a fetch of a session leaves out
// partitions without news (KIP-227): their logs end where they did. An answer that a quota delays is empty, so it says
// nothing.
func confirmEnds(partitions map[topicIDPartition]*livePartition, res *kmsg.FetchResponse, answered time.Time) {
	if throttle(res) > 0 {
		return
	}
	for _, p := range partitions {
		if p.end.Load() != endUnknown {
			p.endAt.Store(answered.UnixNano())
		}
	}
}
