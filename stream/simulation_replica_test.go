package stream

import (
	"context"
	"errors"
	"slices"
	"time"

	"herald/consumer"
	"herald/consumer/batch"
	"herald/consumer/logtail"
)

// replica is one replica of Herald: the part of the cluster that it knows and how far it has read. It is
// the Kafka of its streams.
type replica struct {
	*world
	hub     *Hub
	service *service
	read    map[consumer.Partition]int64
	ids     map[string][16]byte
	tail    *logtail.Tail
	tails   map[consumer.Partition]*logtail.Log

	homes map[string]*consumer.Homes
	short []*consumer.Homes // used by a planted bug
	seen  map[string][]int  // the numbers of partitions that it has seen of each topic's incarnation
}

// tailInModel is the largest limit of a replica's tail in bytes: with a small one, records leave the tail all the
// time.
const tailInModel = 4096

// start makes the replica begin to read and forget everything it knew.
func (r *replica) start() {
	r.hub = NewHub("event-type", nil, "trace")
	r.service = newService(r.t.Context(), r.hub, r, time.Minute, r.limits)
	r.service.streams.spawn = func(fn func()) { fn() }
	r.read, r.ids = make(map[consumer.Partition]int64), make(map[string][16]byte)
	r.tail, r.tails = logtail.New(r.random.IntN(tailInModel)), make(map[consumer.Partition]*logtail.Log)
	r.homes, r.seen = make(map[string]*consumer.Homes), make(map[string][]int)
	r.hub.interleave = r.interlude
	r.hub.larges.least = largeInModel
	for _, topic := range r.topics {
		if topic.partitioner != "" {
			r.homes[topic.name] = consumer.NewHomes(topic.name, topic.partitioner)
		}
		r.learn(topic, false)
	}
}

// learn updates the replica's partitions to those of the topic, as the consumer does: a partition that
// appears later is read from its start.
func (r *replica) learn(topic *logTopic, later bool) {
	count := len(topic.partitions)
	if r.homes[topic.name] != nil && topic.id != [16]byte{} {
		if count = r.count(topic); count == 0 {
			return
		}
	}
	if r.ids[topic.name] != topic.id {
		for p := range r.read {
			if p.Topic == topic.name {
				delete(r.read, p)
				if r.planted != "the tail serves another incarnation" {
					delete(r.tails, p)
				}
				r.hub.End(p)
			}
		}
		later = later || r.ids[topic.name] != [16]byte{}
		r.ids[topic.name] = topic.id
	}
	if topic.id == [16]byte{} {
		return
	}
	for i, part := range topic.partitions[:count] {
		p := consumer.Partition{Topic: topic.name, ID: int32(i)}
		if _, known := r.read[p]; known {
			continue
		}
		r.read[p] = int64(len(part.records))
		if later {
			r.read[p] = part.start
		}
		if r.tails[p] == nil {
			r.tails[p] = r.tail.Begin(r.read[p])
		}
		r.hub.Begin(p, topic.id, r.read[p])
	}
}

// advance reads some more records of one partition.
func (r *replica) advance(topic *logTopic, i int) {
	p := consumer.Partition{Topic: topic.name, ID: int32(i)}
	at, known := r.read[p]
	if !known || r.ids[topic.name] != topic.id {
		return
	}
	part := topic.partitions[i]
	if end := int64(len(part.records)); at > end {
		r.read[p] = end
		r.tails[p].Restart(end)
		r.hub.Gap(p, consumer.Gap{From: at, To: end, Reason: consumer.GapUnknownID})
		return
	}
	if at < part.start {
		r.read[p] = part.start
		if r.planted != "the tail has a hole" {
			r.tails[p].Restart(part.start)
		}
		r.hub.Gap(p, consumer.Gap{From: at, To: part.start, Reason: consumer.GapRetention})
		return
	}
	end := at + int64(r.random.IntN(4))
	if r.calm {
		end = int64(len(part.records))
	}
	end = min(end, int64(len(part.records)))
	var records []consumer.Record
	for o := at; o < end; o++ {
		if rec := topic.record(part, o); rec != nil {
			rec.Claim = topic.claimOf(r.planted)
			records = append(records, *rec)
		}
	}
	if r.planted == "position before the records" && r.depth == 0 {
		_, read := r.hub.findPartition(p)
		read.next.Store(end)
		for _, c := range r.clients {
			if c.stream != nil && c.replica == r {
				c.stream.sub.requestHeartbeat()
				r.serve(c)
			}
		}
	}
	r.read[p] = end
	r.tails[p].DropBefore(part.start)
	kept := records
	if r.planted == "the tail forgets a batch" && r.random.IntN(4) == 0 {
		kept = nil
	}
	logtail.Append(r.tails[p], end, kept, func(rec *consumer.Record) ([]byte, *batch.Record) {
		if rec.Broadcast {
			return nil, &rec.Record
		}
		return rec.User, &rec.Record
	})
	r.hub.Deliver(p, records, end)
}

// record returns the record as the consumer hands it over; nil for a hole in the log.
func (t *logTopic) record(part *logPartition, offset int64) *consumer.Record {
	rec := part.records[offset]
	if rec.value == "" {
		return nil
	}
	key := []byte(rec.key())
	r := batch.Record{Offset: offset, Time: time.UnixMilli(int64(rec.time)), Key: key, Headers: []consumer.Header{{Key: "trace", Value: key}}, Value: rec.encodedValue()}
	if rec.null {
		r.Value = nil
	}
	made := &consumer.Record{Record: r, User: []byte(rec.user), Claim: t.claim, Broadcast: t.kind == consumer.Broadcast}
	made.SetFormat(consumer.Partition{Topic: t.name}, modelFormat{t.world}, false)
	return made
}

// Join implements Kafka.
func (r *replica) Join(_ context.Context, user string) ([]consumer.UserTopic, error) {
	r.interlude()
	topics := []consumer.UserTopic{{Topic: "all"}, {Topic: "homes", Homes: r.homesToJoin("homes")}, {Topic: "own." + user, Own: true}}
	return slices.Concat(topics, r.claimTopics("room"), []consumer.UserTopic{{Topic: "shared"}}, r.claimTopics("team")), nil
}

// Leave implements Kafka.
func (r *replica) Leave(string) {}

// Confirm implements Kafka.
func (r *replica) Confirm(_ context.Context, name string, topicID [16]byte) error {
	topic := r.topic(name)
	defer r.learn(topic, true) // the consumer would learn it soon
	if r.fails() || topic.id != topicID {
		return consumer.ErrRecreated
	}
	return nil
}

// Range implements Kafka.
func (r *replica) Range(_ context.Context, p consumer.Partition, topicID [16]byte) (start, end int64, err error) {
	r.interlude()
	topic := r.topic(p.Topic)
	if r.fails() {
		return 0, 0, errors.New("kafka has no answer")
	}
	if topic.id != topicID {
		return 0, 0, consumer.ErrRecreated
	}
	part := topic.partitions[p.ID]
	return r.startOf(part), int64(len(part.records)), nil
}

// Replay implements Kafka. It reads a few records at a time from a random range: from the tail if the tail holds
// them, otherwise from the log.
func (r *replica) Replay(ctx context.Context, user string, ranges []consumer.Range, fn func(*consumer.Range, *consumer.Record) bool) {
	r.interlude()
	left := make([]*consumer.Range, len(ranges))
	for i := range ranges {
		left[i] = &ranges[i]
		switch r.planted {
		case "seam one too early":
			ranges[i].To--
		case "replay begins one too early":
			ranges[i].Next = max(0, ranges[i].Next-1)
		}
	}
	for len(left) > 0 {
		i := r.random.IntN(len(left))
		over, stopped := r.replay(ctx, left[i], 1+r.random.IntN(10), user, fn)
		if stopped {
			return
		}
		if over {
			left = slices.Delete(left, i, i+1)
		}
	}
}

// replayTail reads up to n offsets of one range from the tail. It returns false if the tail does not hold them.
func (r *replica) replayTail(at *consumer.Range, n int, user string, fn func(*consumer.Range, *consumer.Record) bool) (held, stopped bool) {
	log := r.tails[at.Partition]
	if log == nil || r.ids[at.Topic] != at.TopicID {
		return false, false
	}
	rec := consumer.Record{Broadcast: r.topic(at.Topic).kind == consumer.Broadcast, Claim: r.topic(at.Topic).claim}
	next, held := log.Read(r.ownersOf(at, user), at.Next, min(at.Next+int64(n), at.To), func(owner []byte, found *batch.Record) bool {
		rec.Record, rec.User = *found, owner
		rec.SetFormat(at.Partition, modelFormat{r.world}, false)
		stopped = !r.contend(func() bool { return fn(at, &rec) })
		return !stopped
	})
	if held {
		at.Next = next
	}
	return held, stopped
}

// replay reads n more records of one range.
func (r *replica) replay(ctx context.Context, at *consumer.Range, n int, user string, fn func(*consumer.Range, *consumer.Record) bool) (over, stopped bool) {
	if held, stopped := r.replayTail(at, n, user, fn); held {
		return at.Next >= at.To, stopped
	}
	topic := r.topic(at.Topic)
	switch {
	case topic.id != at.TopicID:
		at.Err = consumer.ErrRecreated
	case ctx.Err() != nil:
		at.Err = ctx.Err()
	}
	for ; at.Err == nil && at.Next < at.To && n > 0; n-- {
		part := topic.partitions[at.ID]
		if r.fails() {
			at.Err = errors.New("kafka has no answer")
			break
		}
		if end := int64(len(part.records)); at.Next < part.start || at.Next >= end {
			at.Err = &consumer.OutOfRangeError{Position: consumer.Position{Partition: at.Partition, Offset: at.Next}, Start: r.startOf(part), End: end}
			break
		}
		rec := topic.record(part, at.Next)
		if rec != nil && (rec.Broadcast || slices.ContainsFunc(r.ownersOf(at, user), func(owner []byte) bool { return string(owner) == string(rec.User) })) && !r.contend(func() bool { return fn(at, rec) }) {
			return false, true
		}
		if topic.id != at.TopicID { // the topic was created again meanwhile
			at.Err = consumer.ErrRecreated
		}
		at.Next++
	}
	return at.Err != nil || at.Next >= at.To, false
}
