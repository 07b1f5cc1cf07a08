package stream

import (
	"fmt"
	"slices"
	"time"

	"herald/consumer"
)

// This part of the model covers topics whose route names their partitioner: producers that keep using an
// old number of partitions, brokers with outdated metadata, misplaced records, and the records that a
// client must get in spite of these.

// tick is the duration of one event of the world.
const tick = 5 * time.Second

const (
	staleBroker   = int(time.Minute / tick) // the largest age of a broker's metadata, in ticks
	staleProducer = 5 * staleBroker
)

// grown records that a topic has had count partitions since the time at.
type grown struct{ count, at int }

// place is a partition of one incarnation of a topic.
type place struct {
	topicID   [16]byte
	partition int32
}

// home returns the partition that the topic's producers choose for the user.
func home(user string, count int) int32 {
	h := consumer.NewHomes("", consumer.Murmur2)
	h.RecordPartitions([16]byte{1}, count, time.Time{}, nil)
	_, homes := h.Find(user)
	for p := range homes {
		return p
	}
	return -1
}

// countAt returns the topic's number of partitions at a time; 0 if the topic did not exist.
func (t *logTopic) countAt(at int) int {
	count := 0
	for _, g := range t.counts {
		if g.at <= at {
			count = g.count
		}
	}
	return count
}

// wasHome reports whether the partition has ever been the user's home.
func (t *logTopic) wasHome(user string, partition int) bool {
	return slices.ContainsFunc(t.counts, func(g grown) bool { return home(user, g.count) == int32(partition) })
}

// place chooses the record's partition as a producer does whose number of partitions may be outdated. A few
// records stay in a random partition.
func (w *world) place(topic *logTopic, rec *logRecord, partition *int) {
	if w.random.IntN(12) == 0 {
		return
	}
	rec.count = max(topic.counts[0].count, topic.countAt(w.now-w.random.IntN(staleProducer)*w.random.IntN(2)))
	rec.current = rec.count == len(topic.partitions)
	*partition = int(home(rec.user, rec.count))
}

// count returns the topic's number of partitions as a broker reports it; 0 if the broker's metadata is
// older than metadata that the replica has seen.
func (r *replica) count(topic *logTopic) int {
	count := len(topic.partitions)
	if !r.calm {
		count = max(topic.counts[0].count, topic.countAt(r.now-r.random.IntN(staleBroker)*r.random.IntN(2)))
	}
	seen := r.seen[topic.name]
	if r.ids[topic.name] != topic.id {
		seen = nil
	}
	grows := len(seen) > 0 && count > seen[len(seen)-1]
	if len(seen) > 0 && count < seen[len(seen)-1] {
		return 0
	}
	if len(seen) == 0 || grows {
		seen = append(seen, count)
	}
	r.seen[topic.name] = seen

	read := make([]int64, len(topic.partitions))
	for i := range read {
		read[i] = r.read[consumer.Partition{Topic: topic.name, ID: int32(i)}]
	}
	homes, now := r.homes[topic.name], time.Time{}.Add(time.Duration(1+r.now)*tick)
	if r.planted == "a new home begins where the replica is" && grows {
		for range 3 {
			now = now.Add(time.Hour)
			homes.RecordPartitions(topic.id, seen[len(seen)-2], now, read)
		}
	}
	homes.RecordPartitions(topic.id, count, now, read)
	for _, h := range r.short {
		h.RecordPartitions(topic.id, count, now, read)
	}
	return count
}

// homesToJoin returns the Homes that the replica hands to a new stream.
func (r *replica) homesToJoin(topic string) *consumer.Homes {
	seen := r.seen[topic]
	if r.planted == "what is misplaced comes" {
		return nil
	}
	if r.planted != "only the last home counts" || len(seen) == 0 {
		return r.homes[topic]
	}
	h := consumer.NewHomes(topic, consumer.Murmur2)
	h.RecordPartitions(r.ids[topic], seen[len(seen)-1], time.Time{}, nil)
	r.short = append(r.short, h)
	return h
}

// homesOf returns the user's homes that the replica knows. The ids of a stream that begins there name them.
func (r *replica) homesOf(user string) map[place]bool {
	homes := make(map[place]bool)
	for topic, counts := range r.seen {
		for _, count := range counts {
			homes[place{r.ids[topic], home(user, count)}] = true
		}
	}
	return homes
}

// restart restarts the replica and cuts its streams.
func (w *world) restart(r *replica) {
	for _, c := range w.clients {
		if c.stream != nil && c.replica == r {
			w.disconnect(c)
		}
	}
	r.start()
}

// promise records that, from time at on, the client must get the records in the place.
func (c *simClient) promise(p place, at int) {
	if _, ok := c.promised[p]; !ok {
		c.promised[p] = at
	}
}

// promises records the places that an id names.
func (w *world) promises(c *simClient, id string) {
	sources, err := decodeID(id)
	if err != nil {
		w.wrong = append(w.wrong, fmt.Sprintf("id %q: %v", id, err))
		return
	}
	for topicID, topic := range w.past {
		s := sources[tag(topic.name)]
		if topic.name != "homes" || s.incarnation != newIncarnation(topicID).incarnationTag {
			continue
		}
		for _, p := range s.positions {
			c.promise(place{topicID, p.partition}, w.now)
		}
	}
}

// dueAtHome reports whether the client must have received a record of a topic whose route names the
// partitioner. A record in the user's present home is due. A record in an earlier home is due if the
// client's stream covered that partition when the record was written, or when partitions were added after
// a record that was written to the home of that time. A replica that starts later cannot know an earlier
// home.
func (c *simClient) dueAtHome(topic *logTopic, partition int, rec *logRecord) bool {
	if rec.count == 0 {
		return false
	}
	if rec.count == len(topic.partitions) {
		return true
	}
	since, promised := c.promised[place{topic.id, int32(partition)}]
	if rec.current {
		i := slices.IndexFunc(topic.counts, func(g grown) bool { return g.count == rec.count })
		return promised && since <= topic.counts[i+1].at
	}
	return promised && since <= rec.time
}
