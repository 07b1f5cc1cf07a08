package consumer

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// metadataAge is how old a broker's metadata can be. It is usually milliseconds old; a broker that loses
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
	layouts []layout   // with growing numbers of partitions
	young   readSample // taken when the topic was known to have no more partitions than the last layout
	old     readSample // taken at least metadataAge before young

	logged atomic.Int64 // when a misplaced record was last logged, see mayLog
}

// layout is a number of partitions that the topic has had.
type layout struct {
	count int
	from  []int64 // the offset where a home begins, by partition; a partition without one begins at its start
}

// readSample says how far the topic had been read at one time.
type readSample struct {
	asked time.Time
	read  []int64 // by partition: the offset before which everything was read; 0 if the partition is not read
}

// NewHomes returns the homes for a topic whose number of partitions is not known yet.
func NewHomes(topic string, p Partitioner) *Homes {
	return &Homes{topic: topic, partitioner: p, log: slog.New(slog.DiscardHandler), misplaced: func() {}}
}

// RecordPartitions notes the number of partitions that Kafka reported for the topic. asked is the time of the request;
// read is the offset up to which each partition had been read before the request.
func (h *Homes) RecordPartitions(topicID [16]byte, count int, asked time.Time, read []int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	last := len(h.layouts) - 1
	switch {
	case count == 0: // the answer has no number
		return
	case last < 0 || h.topicID != topicID: // the offsets read belong to another topic
		h.topicID, h.layouts = topicID, []layout{{count: count}}
		h.young, h.old = readSample{}, readSample{}
		return
	case count < h.layouts[last].count: // an outdated answer
		return
	case count > h.layouts[last].count:
		h.layouts = append(h.layouts, layout{count, h.old.read})
	}
	if h.young.asked.IsZero() || asked.Sub(h.young.asked) >= metadataAge {
		h.old, h.young = h.young, readSample{asked, read}
	}
}

// Find returns the topic's id, the user's homes, and the offset at which a stream that has read nothing of a
// home begins there.
func (h *Homes) Find(user string) (topicID [16]byte, begin map[int32]int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	begin = make(map[int32]int64, len(h.layouts))
	for _, l := range h.layouts {
		home := h.partitioner.choose([]byte(user), l.count)
		from := int64(0)
		if int(home) < len(l.from) {
			from = l.from[home]
		}
		if was, ok := begin[home]; !ok || from < was {
			begin[home] = from
		}
	}
	return h.topicID, begin
}

// RecordMisplaced counts a record for user that was found outside of the user's homes, and logs one such record a
// minute: the producers use another partitioner than the route names.
func (h *Homes) RecordMisplaced(user string, at Position) {
	h.misplaced()
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.layouts) == 0 || !mayLog(&h.logged, time.Minute) {
		return
	}
	fits := []string{}
	count := h.layouts[len(h.layouts)-1].count
	for _, p := range partitioners {
		if p.choose([]byte(user), count) == at.ID {
			fits = append(fits, string(p))
		}
	}
	h.log.Warn("misplaced record left out; give the topic the partitioner that all of its producers use, or none",
		"topic", h.topic, "partition", at.ID, "offset", at.Offset, "partitions", count, "partitioner", string(h.partitioner), "fitting", fits)
}
