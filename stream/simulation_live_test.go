package stream

import (
	"fmt"
	"strings"

	"herald/consumer"
)

// This part of the model knows when replay has met live, and checks that no stream says so early.

// liveClaim is a checkpoint that says that replay has met live.
type liveClaim struct {
	id string
	at int // when the replica knew that it was current, counted in events of the world
}

// IsCurrent implements Kafka. It is exact where the consumer knows the recent past, and sometimes it does not know.
func (r *replica) IsCurrent(name string, topicID [16]byte, next func(int32) (int64, bool)) bool {
	r.interlude()
	c := r.serving
	if name == c.stream.sub.topics[0].Topic {
		c.currentAt = r.now
	}
	if r.planted == "an old position is current" {
		return true
	}
	topic := r.topic(name)
	if topic.id == [16]byte{} || r.fails() {
		return topic.id == [16]byte{} && !r.fails()
	}
	if topic.id != topicID {
		return false
	}
	for i, part := range topic.partitions {
		p := consumer.Partition{Topic: name, ID: int32(i)}
		offset, ok := next(p.ID)
		if r.planted == "current later than the seam" {
			offset = r.read[p]
		}
		if r.ids[name] != topicID || !r.isReading(p) || ok && offset < int64(len(part.records)) {
			return false // the consumer learns of a new partition within seconds
		}
	}
	return true
}

func (r *replica) isReading(p consumer.Partition) bool {
	_, reads := r.read[p]
	return reads
}

// claim notes a checkpoint that says that replay has met live, when it is written.
func (c *cutBody) claim(line string) {
	if strings.HasPrefix(line, "data: {") && strings.Contains(line, `"live":true`) {
		c.lives = append(c.lives, liveClaim{c.id, c.client.currentAt})
	}
}

// verifyLive compares the log with the events that came before the checkpoint that says that replay has met live: they must
// include each record that was written before.
func (w *world) verifyLive(c *simClient, got []event) {
	claims := 0
	for i, e := range got {
		if e.kind != TypeCheckpoint || !strings.Contains(e.data, `"live":true`) {
			continue
		}
		claim := c.body.lives[claims]
		claims++
		before := *c
		before.events = append(append([]event(nil), c.events...), got[:i]...)
		for _, text := range w.verify(&before, claim.at) {
			w.wrong = append(w.wrong, fmt.Sprintf("%s is told that replay has met live (%s): %s", c.user, e.data, text))
		}
	}
	if claims > 1 {
		w.wrong = append(w.wrong, fmt.Sprintf("%s is told %d times that replay has met live", c.user, claims))
	}
}
