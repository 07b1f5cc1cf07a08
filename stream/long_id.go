package stream

import (
	"log/slog"
	"sync"
)

// longID is how long an id may be, in bytes, before the operator is warned: a client sends it in a header,
// and many proxies take 8 KiB of header at most, with cookies and a token.
const longID = 6 << 10

// longIDs warns of topics that make ids long, once each.
type longIDs struct {
	log *slog.Logger

	mu   sync.Mutex
	told map[string]bool // by topic: whether it was that ids cannot hold it
}

// checkCursor looks at the cursor of a stream that begins.
func (l *longIDs) checkCursor(at cursor) {
	if len(at) == 0 {
		return
	}
	const longest = len(".2147483647-9223372036854775806t") // of a position
	positions, size := 0, 0
	for i := range at {
		positions += len(at[i].positions)
	}
	if positions < longID/longest {
		return
	}
	for i := range at {
		size += len(appendTopic(nil, &at[i]))
	}
	if size < longID {
		return
	}
	s, tooLong := &at[at.indexOfLargestTopic()], len(appendHead(nil, at))+size > maxIDLength
	l.mu.Lock()
	defer l.mu.Unlock()
	if was, told := l.told[s.name]; told && (was || !tooLong) {
		return
	}
	l.told[s.name] = tooLong
	const mend = "if all producers of the topic choose partitions alike, name their partitioner in --topic (TOPIC,partitioner=murmur2): ids then name a user's own partitions only; else the topic is to have fewer"
	if tooLong {
		l.log.Error("topic has more partitions than an event id can name: clients that come back miss its records, and are told so by a gap", "topic", s.name, "partitions", len(s.positions), "id_bytes", size, "mend", mend)
		return
	}
	l.log.Warn("topic has so many partitions that event ids are longer than some proxies take", "topic", s.name, "partitions", len(s.positions), "id_bytes", size, "mend", mend)
}
