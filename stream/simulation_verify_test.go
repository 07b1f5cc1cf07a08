package stream

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"herald/consumer"
)

// verify compares the client's events with the log and returns the violations. Each record of the client's
// user must come once and in order, or lie within a gap. A gap must not cover records that the log still
// held. Records of a later incarnation of a topic must follow a gap. After an unclean election of a
// partition, the records that were never lost must come at least once. Only records that were written by the time until
// must have come.
func (w *world) verify(c *simClient, until int) []string {
	var wrong []string
	complain := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	seen := make(map[string]bool)
	next := make(map[place]int64) // the client's position
	lost := make(map[place][][2]int64)
	current := make(map[string]byte) // the incarnation that each topic's last record had
	for _, e := range c.events {
		switch e.kind {
		case TypeCheckpoint:
			continue
		case TypeGap:
			var g receivedGap
			if err := json.Unmarshal([]byte(e.data), &g); err != nil {
				complain("gap %s: %v", e.data, err)
				continue
			}
			if g.Reason == consumer.GapRecreated {
				delete(current, g.Source)
				continue
			}
			topic := w.named(e.id, g.Source)
			if topic == nil {
				complain("gap %s of no topic", e.data)
				continue
			}
			at := place{topic.id, g.Partition}
			lost[at] = append(lost[at], [2]int64{g.From, g.To})
			if g.Reason == consumer.GapUndecodable {
				value, err := w.verifyUndecodable(c, topic, &g)
				if err != nil || seen[value] && topic.partitions[g.Partition].cuts == 0 {
					complain("gap %s (again: %t): %v", e.data, seen[value], err)
				}
				seen[value] = true
			}
			switch {
			case g.To > c.reach[e.id+e.data]:
				complain("gap %s beyond %d", e.data, c.reach[e.id+e.data])
			case topic.partitions[g.Partition].cuts > 0:
			case g.From < next[at] || g.From >= g.To || g.Reason == consumer.GapUnknownID:
				complain("gap %s where the client is at %d", e.data, next[at])
			}
			next[at] = g.To
			continue
		}
		var id byte
		var partition int32
		var offset int64
		if _, err := fmt.Sscanf(e.data, "%d/%d/%d", &id, &partition, &offset); err != nil {
			complain("garbled: %s", e.data)
			continue
		}
		at := place{[16]byte{id}, partition}
		topic := w.past[at.topicID]
		part := topic.partitions[partition]
		if seen[e.data] && part.cuts == 0 {
			complain("twice: %s", e.data)
		}
		seen[e.data] = true
		if was, ok := current[topic.name]; ok && was != id {
			complain("%s after incarnation %d without a gap", e.data, was)
		}
		current[topic.name] = id
		if rec := w.values[e.data]; rec.isUndecodable() {
			complain("cannot be decoded: %s", e.data)
		}
		if offset < c.read[at] && part.cuts == 0 && part.records[offset].time < c.since {
			complain("before what was asked for: %s", e.data)
		}
		if offset < next[at] && part.cuts == 0 {
			complain("out of order: %s at %d", e.data, next[at])
		}
		next[at] = offset + 1
		if topic.partitioner != "" && !topic.wasHome(c.user, int(partition)) {
			complain("misplaced: %s", e.data)
		}
		if rec, ok := w.values[e.data]; !ok || topic.kind != consumer.Broadcast && topic.claim == "" && rec.user != c.user {
			complain("not for this user: %s", e.data)
		}
	}
	for _, topic := range w.topics { // Kafka holds no records of deleted topics
		for i, part := range topic.partitions {
			at := place{topic.id, int32(i)}
			covered := func(offset int64) bool {
				return slices.ContainsFunc(lost[at], func(g [2]int64) bool { return g[0] <= offset && offset < g[1] })
			}
			for o := range part.records {
				rec := topic.record(part, int64(o))
				if rec == nil || !c.owns(topic, rec) || part.records[o].time > until || !c.due(topic, i, o) {
					continue
				}
				if value := part.records[o].value; !seen[value] && !covered(int64(o)) {
					complain("lost: %s", value)
				}
			}
		}
	}
	return wrong
}

// due reports whether the client must have received the record: the client's stream had begun when the
// record was written, or its since parameter includes the record.
func (c *simClient) due(topic *logTopic, partition, offset int) bool {
	part := topic.partitions[partition]
	rec := &part.records[offset]
	begun := c.opened && rec.time > c.openedAt
	if from, ok := c.from[place{topic.id, int32(partition)}]; ok && int64(offset) >= from {
		begun = true
	}
	if part.cuts > 0 && offset >= part.kept || rec.null && !c.shape.has(showFields) {
		return false
	}
	return begun && (topic.partitioner == "" || c.dueAtHome(topic, partition, rec))
}

// named returns the incarnation of the topic that the id names; nil if the id names none.
func (w *world) named(id, topic string) *logTopic {
	sources, err := decodeID(id)
	if err != nil {
		return nil
	}
	for topicID, past := range w.past {
		if past.name == topic && newIncarnation(topicID).incarnationTag == sources[tag(topic)].incarnation {
			return past
		}
	}
	return nil
}

// note records for each gap event, at the time it is written, the largest end that the gap may have.
func (c *cutBody) note() {
	for {
		line, _, whole := bytes.Cut(c.text[c.noted:], []byte("\n"))
		if !whole {
			return
		}
		c.noted += len(line) + 1
		if id, ok := strings.CutPrefix(string(line), "id: "); ok {
			c.id = id
		}
		c.claim(string(line))
		var g receivedGap
		data, ok := strings.CutPrefix(string(line), "data: {")
		if !ok || json.Unmarshal([]byte("{"+data), &g) != nil {
			continue
		}
		topic := c.world.named(c.id, g.Source)
		if topic == nil || g.Reason == consumer.GapRecreated {
			continue
		}
		part := topic.partitions[g.Partition]
		reach := part.start
		if g.Reason == consumer.GapReplayLimit {
			reach = part.most - c.world.limits.Records
		}
		if g.Reason == consumer.GapUndecodable {
			reach = part.most
		}
		c.client.reach[c.id+"{"+data] = reach
	}
}

// TestSimulationReplays checks that a seed produces the same bytes each time.
func TestSimulationReplays(t *testing.T) {
	wires := func(seed uint64) (wires [][]byte) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, seed, "")
			w.run()
			for _, c := range w.clients {
				wires = append(wires, c.wire)
			}
		})
		return wires
	}
	for seed := range uint64(50) {
		first, again := wires(seed), wires(seed)
		if len(first) == 0 || !slices.EqualFunc(first, again, bytes.Equal) {
			t.Errorf("seed %d does not bring the same again", seed)
		}
	}
}
