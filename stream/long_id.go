package stream

import (
	"log/slog"
	"sync"
)

// longID is the length from which the log warns about an id, in bytes. A client sends its id in a header, and many
// proxies accept at most 8 KiB of headers, cookies and token included.
const longID = 6 << 10

// longIDs logs topics that make ids long, once each.
type longIDs struct {
	log *slog.Logger

	mu     sync.Mutex
	logged map[string]bool // by topic: whether the line said that ids cannot name the topic
}

// checkCursor logs a line if the cursor of a new stream makes long ids.
func (l *longIDs) checkCursor(at cursor) {
	if len(at) == 0 {
		return
	}
	const longest = len(".2147483647-9223372036854775806t") // the longest position
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
	if was, logged := l.logged[s.name]; logged && (was || !tooLong) {
		return
	}
	l.logged[s.name] = tooLong
	const advice = "if all producers of the topic use the same partitioner, name it in --topic (TOPIC,partitioner=murmur2): ids then name only the user's own partitions; otherwise use fewer partitions"
	if tooLong {
		l.log.Error("topic has more partitions than an event id can name; returning clients miss its records and get a gap", "topic", s.name, "partitions", len(s.positions), "id_bytes", size, "advice", advice)
		return
	}
	l.log.Warn("topic has so many partitions that some proxies refuse its event ids", "topic", s.name, "partitions", len(s.positions), "id_bytes", size, "advice", advice)
}
