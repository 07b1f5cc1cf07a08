package consumer

import (
	"log/slog"
	"sync"
	"time"
)

// metadataAge is how old a broker's metadata can be. It is milliseconds old as a rule; a broker that loses
// touch with the controller is fenced after broker.session.timeout.ms, 9 s by default.
const metadataAge = time.Minute

// Homes says in which partitions a user's records are, for a topic whose route names the partitioner of its
// producers. A user's home is the partition that this partitioner chooses for the user.
//
// # When partitions are added
//
// Adding partitions may change a user's home. A producer that does not know the new number of partitions
// writes to the old home for some minutes more. A user therefore has a home for each number of partitions
// that this replica has seen.
//
// The new home may be a partition that existed before and that this replica has read. Records for the user
// that producers wrote there after the change were passed over, because the replica did not know the new
// home. A stream that has not read the new home therefore begins at an offset that the replica had read
// before any such record. The replica notes offsets while the topic has fewer partitions. It takes the
// offsets noted at least [metadataAge] before it last saw the old number, because no broker's metadata is
// older. No record is lost, and no record is repeated, because the user had no records in this partition
// before. A replica that has not run long enough begins at the start of the partition.
//
// A replica does not know homes for numbers of partitions from before its start. Streams that it resumes
// have these homes in their ids. A stream that begins without an id, in the minutes after partitions were
// added, misses the records that producers still write to the old home.
//
// Homes is safe for concurrent use.
type Homes struct {
	topic       string
	partitioner Partitioner
	log         *slog.Logger
	misplaced   func() // counts a misplaced record

	mu      sync.Mutex
	topicID [16]byte
	numbers []number // of partitions, growing
	young   sample   // taken when the topic was known to have the last of numbers, or fewer, partitions
	old     sample   // one at least metadataAge before it
	told    time.Time
}

// number is a number of partitions that the topic has had.
type number struct {
	count int
	from  []int64 // the offset where a home begins, by partition; a partition without one begins at its start
}

// sample is the offsets up to which the partitions had been read at one time.
type sample struct {
	asked time.Time
	read  []int64 // by partition; 0 for one that is not read
}

// NewHomes returns the homes for a topic whose number of partitions is not known yet.
func NewHomes(topic string, p Partitioner) *Homes {
	return &Homes{topic: topic, partitioner: p, log: slog.New(slog.DiscardHandler), misplaced: func() {}}
}

// Saw notes the number of partitions that Kafka reported for the topic. asked is the time of the request;
// read is the offset up to which each partition had been read before the request.
func (h *Homes) Saw(topicID [16]byte, count int, asked time.Time, read []int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	last := len(h.numbers) - 1
	switch {
	case count == 0: // the answer has no number
		return
	case last < 0 || h.topicID != topicID: // the offsets read belong to another topic
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

// Of returns the topic's id, the user's homes, and the offset at which a stream that has read nothing of a
// home begins there.
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

// Misplaced counts a record for user that was found outside of the user's homes, and logs one such record a
// minute: the producers use another partitioner than the route names.
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
