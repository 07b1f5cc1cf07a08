package stream

import (
	"fmt"
	"slices"
	"time"

	"herald/consumer"
)

// This is what the model has of topics whose route names their partitioner: producers that go on with
// the number of partitions they know, brokers whose metadata is behind, records that are put somewhere
// else, and what of all that a client is promised.

// tick is how long an event of the world takes.
const tick = 5 * time.Second

const (
	staleBroker   = int(time.Minute / tick) // by how many ticks a broker's metadata is behind at most
	staleProducer = 5 * staleBroker
)

// grown is a number of partitions and when the topic came to have it.
type grown struct{ count, at int }

// place is a partition of one incarnation.
type place struct {
	topicID   [16]byte
	partition int32
}

// home is where the topic's producers put the user's records.
func home(user string, count int) int32 {
	h := consumer.NewHomes("", consumer.Murmur2)
	h.Saw([16]byte{1}, count, time.Time{}, nil)
	_, homes := h.Of(user)
	for p := range homes {
		return p
	}
	return -1
}

// countAt returns how many partitions the topic had at a time, 0 if it did not exist.
func (t *logTopic) countAt(at int) int {
	count := 0
	for _, g := range t.counts {
		if g.at <= at {
			count = g.count
		}
	}
	return count
}

// wasHome says whether the partition was the user's home ever.
func (t *logTopic) wasHome(user string, partition int) bool {
	return slices.ContainsFunc(t.counts, func(g grown) bool { return home(user, g.count) == int32(partition) })
}

// place puts a record where a producer that may not know all partitions puts it, or anywhere.
func (w *world) place(topic *logTopic, rec *logRecord, partition *int) {
	if w.random.IntN(12) == 0 {
		return
	}
	rec.count = max(topic.counts[0].count, topic.countAt(w.now-w.random.IntN(staleProducer)*w.random.IntN(2)))
	rec.current = rec.count == len(topic.partitions)
	*partition = int(home(rec.user, rec.count))
}

// count is how many partitions a broker says that the topic has; 0 if that is out of date.
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
			homes.Saw(topic.id, seen[len(seen)-2], now, read)
		}
	}
	homes.Saw(topic.id, count, now, read)
	for _, h := range r.short {
		h.Saw(topic.id, count, now, read)
	}
	return count
}

// homesToJoin returns what a stream that begins at the replica has for its homes.
func (r *replica) homesToJoin(topic string) *consumer.Homes {
	seen := r.seen[topic]
	if r.planted == "what is misplaced comes" {
		return nil
	}
	if r.planted != "only the last home counts" || len(seen) == 0 {
		return r.homes[topic]
	}
	h := consumer.NewHomes(topic, consumer.Murmur2)
	h.Saw(r.ids[topic], seen[len(seen)-1], time.Time{}, nil)
	r.short = append(r.short, h)
	return h
}

// homesOf returns the user's homes that the replica knows of: ids of a stream that begins there name them.
func (r *replica) homesOf(user string) map[place]bool {
	homes := make(map[place]bool)
	for topic, counts := range r.seen {
		for _, count := range counts {
			homes[place{r.ids[topic], home(user, count)}] = true
		}
	}
	return homes
}

// restart is a replica that begins anew: its streams are cut.
func (w *world) restart(r *replica) {
	for _, c := range w.clients {
		if c.stream != nil && c.replica == r {
			w.disconnect(c)
		}
	}
	r.start()
}

// promise notes that the client is to be told, or was told, at some time, that it gets what is in the place.
func (c *simClient) promise(p place, at int) {
	if _, ok := c.promised[p]; !ok {
		c.promised[p] = at
	}
}

// promises notes what an id promises.
func (w *world) promises(c *simClient, id string) {
	sources, err := decodeID(id)
	if err != nil {
		w.wrong = append(w.wrong, fmt.Sprintf("id %q: %v", id, err))
		return
	}
	for topicID, topic := range w.past {
		s := sources[tag(topic.name)]
		if topic.name != "homes" || s.incarnation != newIncarnation(topicID).tag {
			continue
		}
		for _, p := range s.positions {
			c.promise(place{topicID, p.partition}, w.now)
		}
	}
}

// dueAtHome says whether a record must have come of a topic whose producers' partitioner is known. It must
// if it is where they all put it by now. Where they put it before, it must have come if the client's stream
// had that partition when it was written, or when its producer's number of partitions was still that of the
// topic. A replica that starts later does not know that partition.
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
