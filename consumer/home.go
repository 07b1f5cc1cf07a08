package consumer

import (
	"log/slog"
	"sync"
	"time"
)

// metadataAge is how far behind the cluster a broker's metadata is at most. It is behind by
// milliseconds; one that lost touch with the controller is fenced after broker.session.timeout.ms, 9 s
// by default.
const metadataAge = time.Minute

// Homes says in which partitions a user's records are, for a topic whose route names the partitioner
// of its producers: in the partition that the user's name hashes to.
//
// # When partitions are added
//
// Then another partition becomes the user's home. A producer that has not heard of it goes on writing
// to the old one, for minutes, so the homes for all numbers of partitions that this replica has seen
// count. The new home may be a partition that was there before and has been read long since, while
// what producers wrote to it for this user after partitions were added was passed by. So whoever has
// not read it begins there at a position that was read before that can have happened: one that was
// taken, while the topic had fewer partitions, a minute or two before that was last heard of
// ([metadataAge], which no broker's metadata is behind). So nothing is lost. Nothing is repeated
// either: of that partition the user had nothing. A replica that has not run for so long begins at the
// start of the partition.
//
// What a replica cannot know: homes for numbers of partitions of before its start. Streams that it
// resumes have them in their ids. A stream that begins there without an id, in the minutes after
// partitions were added, misses what producers still write to the old home.
//
// It is safe for concurrent use.
type Homes struct {
	topic       string
	partitioner Partitioner
	log         *slog.Logger
	misplaced   func() // counts

	mu      sync.Mutex
	topicID [16]byte
	numbers []number // of partitions, growing
	young   sample   // taken when the topic was known to have the last of numbers, or fewer, partitions
	old     sample   // one at least metadataAge before it
	told    time.Time
}

// number is how many partitions the topic had from some time on.
type number struct {
	count int
	from  []int64 // where homes by it begin, by partition; where there is none, at the start
}

// sample is how far partitions had been read at a time.
type sample struct {
	asked time.Time
	read  []int64 // by partition; 0 for one that is not read
}

// NewHomes returns the homes for a topic of which nothing is known yet.
func NewHomes(topic string, p Partitioner) *Homes {
	return &Homes{topic: topic, partitioner: p, log: slog.New(slog.DiscardHandler), misplaced: func() {}}
}

// Saw notes that Kafka, asked at some time, said how many partitions the topic has. read is how far
// they had been read before it was asked, by partition.
func (h *Homes) Saw(topicID [16]byte, count int, asked time.Time, read []int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	last := len(h.numbers) - 1
	switch {
	case count == 0: // it says nothing
		return
	case last < 0 || h.topicID != topicID: // what was read was another one
		h.topicID, h.numbers = topicID, []number{{count: count}}
		h.young, h.old = sample{}, sample{}
		return
	case count < h.numbers[last].count: // an outdated answer
		return
	case count > h.numbers[last].count:
		h.numbers = append(h.numbers, number{count, h.old.read})
	}
	if h.young.asked.IsZero() || asked.Sub(h.young.asked) >= metadataAge {
		h.old, h.young = h.young, sample{asked, read}
	}
}

// Of returns user's homes and where a stream that has read nothing of them begins, for the topic with
// the id.
func (h *Homes) Of(user string) (topicID [16]byte, begin map[int32]int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	begin = make(map[int32]int64, len(h.numbers))
	for _, n := range h.numbers {
		home := h.partitioner.choose([]byte(user), n.count)
		from := int64(0)
		if int(home) < len(n.from) {
			from = n.from[home]
		}
		if was, ok := begin[home]; !ok || from < was {
			begin[home] = from
		}
	}
	return h.topicID, begin
}

// Misplaced counts a record that was found for user outside of the user's homes, and says so in the
// log, at most once a minute: the route names another partitioner than the producers have.
func (h *Homes) Misplaced(user string, at Position) {
	h.misplaced()
	h.mu.Lock()
	defer h.mu.Unlock()
	if time.Since(h.told) < time.Minute || len(h.numbers) == 0 {
		return
	}
	h.told = time.Now()
	fits := []string{}
	count := h.numbers[len(h.numbers)-1].count
	for _, p := range partitioners {
		if p.choose([]byte(user), count) == at.ID {
			fits = append(fits, string(p))
		}
	}
	h.log.Warn("a record is not where the topic's partitioner puts its user and was left out: name the partitioner that its producers have, or none",
		"topic", h.topic, "partition", at.ID, "offset", at.Offset, "partitions", count, "partitioner", string(h.partitioner), "fitting", fits)
}

// sample returns how far those of the topics that have homes have been read.
func (c *Consumer) sample(names []string) map[string]sample {
	samples := make(map[string]sample)
	for _, name := range names {
		if c.homes[name] == nil {
			continue
		}
		c.mu.Lock()
		read := make([]int64, len(c.topics[name].leaders))
		c.mu.Unlock()
		for i := range read {
			if f := c.reader.feed(Partition{Topic: name, ID: int32(i)}); f != nil {
				read[i], _ = f.position()
			}
		}
		samples[name] = sample{time.Now(), read}
	}
	return samples
}
