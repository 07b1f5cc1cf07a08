package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"herald/consumer"
)

// This part of the model covers unclean leader elections, heartbeats that collide with a replay's
// writes, delivered positions of users' own topics, and streams that begin in the past.

// value returns the value for the partition's next record. No other record has it.
func (t *logTopic) value(partition int) string {
	part := t.partitions[partition]
	value := fmt.Sprintf("%d/%d/%d", t.id[0], partition, len(part.records))
	if part.cuts > 0 {
		value += fmt.Sprint("/", part.cuts)
	}
	return value
}

// cut is an unclean leader election: the end of a log is lost, and later records reuse its offsets.
func (w *world) cut(topic *logTopic) {
	part := topic.partitions[w.random.IntN(len(topic.partitions))]
	left := max(int(part.start), len(part.records)-1-w.random.IntN(5))
	if left >= len(part.records) {
		return
	}
	if part.cuts == 0 || left < part.kept {
		part.kept = left
	}
	part.cuts++
	part.records = slices.Clone(part.records[:left])
}

// startOf returns the log start offset that Kafka reports.
func (w *world) startOf(part *logPartition) int64 {
	if w.planted == "gap too long" {
		return min(part.start+2, int64(len(part.records)))
	}
	return part.start
}

// contend hands a replayed record to the stream, sometimes while a heartbeat holds the writing lock.
func (w *world) contend(give func() bool) bool {
	if w.random.IntN(4) == 0 {
		writer := &w.serving.stream.writer
		writer.mu.Lock()
		defer writer.mu.Unlock()
	}
	return give()
}

// Delivered implements Kafka. It reports a violation if the delivered record was never written.
func (r *replica) Delivered(p consumer.Partition, topicID [16]byte, next int64) {
	part := r.past[topicID].partitions[p.ID]
	if part.cuts == 0 && !r.serving.body.has(part.records[next-1]) {
		r.wrong = append(r.wrong, fmt.Sprintf("%d of %v is delivered and was not written", next, p))
	}
	at := place{topicID, p.ID}
	r.delivered[at] = max(r.delivered[at], next)
}

// DeliveredTo implements Kafka.
func (r *replica) DeliveredTo(_ context.Context, user string) (map[consumer.Partition]int64, error) {
	r.interlude()
	at := make(map[consumer.Partition]int64)
	for p := range r.read {
		if p.Topic == "own."+user {
			at[p] = r.delivered[place{r.ids[p.Topic], p.ID}]
			if r.planted == "delivered too far" {
				at[p]++
			}
		}
	}
	return at, nil
}

// deliveredOf returns the delivered positions of the user's own topic.
func (w *world) deliveredOf(user string) map[place]int64 {
	topic := w.topic("own." + user)
	delivered := make(map[place]int64)
	for i := range topic.partitions {
		at := place{topic.id, int32(i)}
		delivered[at] = w.delivered[at]
	}
	return delivered
}

// request returns the client's request. Where the client's id gives no position, the model recomputes the
// position at which the client has to begin.
func (w *world) request(c *simClient) streamRequest {
	r := streamRequest{lastID: c.lastID, unseen: c.unseen}
	if c.since == 0 {
		return r
	}
	r.since = time.UnixMilli(int64(c.since))
	if c.opened {
		sources, _ := decodeID(c.lastID)
		for at := range c.from {
			for _, p := range sources[tag(w.past[at.topicID].name)].positions {
				if p.partition == at.partition && p.sought {
					delete(c.from, at)
				}
			}
		}
		return r
	}
	clear(c.read)
	homes := c.replica.homesOf(c.user)
	for p, next := range c.replica.read {
		at := place{c.replica.ids[p.Topic], p.ID}
		if c.replica.homes[p.Topic] == nil || homes[at] { // a partition that becomes a home later is read from its start
			c.read[at] = next
		}
	}
	return r
}

// Since implements Kafka. For some partitions Kafka does not answer, or it answers from outdated metadata
// that the topic does not exist.
func (r *replica) Since(_ context.Context, partitions []consumer.Partition, t time.Time) (map[consumer.Partition]int64, error) {
	r.interlude()
	first := make(map[consumer.Partition]int64)
	var err error
	for _, p := range partitions {
		topic := r.topic(p.Topic)
		if _, known := r.read[p]; !known || topic.id != r.ids[p.Topic] || !r.calm && r.random.IntN(4) == 0 {
			if r.random.IntN(4) > 0 {
				err = errors.New("kafka has no answer")
			}
			continue
		}
		part := topic.partitions[p.ID]
		first[p] = consumer.AfterAll
		begin := int64(len(part.records))
		for begin > part.start && int64(part.records[begin-1].time) >= t.UnixMilli() {
			begin--
			first[p] = begin
		}
		if s := r.serving.stream; !s.begun || s.writer.cursor.topic(p.Topic).isSought(p.ID) {
			r.serving.from[place{topic.id, p.ID}] = begin
		}
		if r.planted == "since one too late" && begin < int64(len(part.records)) {
			first[p]++
		}
	}
	if len(first) == 0 && !r.serving.stream.begun { // otherwise the stream would wait before it begins, and the model has no time
		err = nil
	}
	return first, err
}
