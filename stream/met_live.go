package stream

import "time"

// A client learns once from a stream that replay has met live: it then has all records that Kafka held when the stream
// began. A catch-up says so when it ends, if it can. Otherwise the stream checks again, because a partition may wait for
// Kafka, or the position that this replica knows may be old.

// A stream checks each second, quickChecks times, and then each slowCheck. The cause may last: where Herald has no right
// to read a topic, no stream ever meets live.
const (
	quickChecks = 60
	slowCheck   = 15 * time.Second
)

// isCurrent reports whether Kafka has confirmed in the last two seconds that at has all records of the logs of the
// stream's partitions.
func (c *catchUp) isCurrent(at cursor) bool {
	for i := range at {
		topic := c.writer.cursor.topic(at[i].name)
		current := c.env.kafka.IsCurrent(at[i].name, at[i].topicID, func(partition int32) (int64, bool) {
			return at[i].nextOffset(partition), topic.hasPartition(partition)
		})
		if !current {
			return false
		}
	}
	return true
}

// hasReached reports whether the stream has considered all records before at, and none after it. It returns false if
// a partition waits for Kafka, is sought, or is not read by this replica.
func (c *catchUp) hasReached(at cursor) bool {
	if len(c.waiting) > 0 || c.writer.sub.isBehind() { // for example because a partition was added
		return false
	}
	for i := range at {
		topic := c.writer.cursor.topic(at[i].name)
		if at[i].incarnation == absent {
			continue // the topic does not exist, or isCurrent has returned false
		}
		if topic.incarnation != at[i].incarnation {
			return false
		}
		for _, p := range topic.positions {
			if _, read := at[i].findPosition(p.partition); !read || p.sought {
				return false
			}
		}
		for _, p := range at[i].positions {
			if topic.hasPartition(p.partition) && topic.nextOffset(p.partition) != p.next { // after p.next if another replica has read further
				return false
			}
		}
	}
	return true
}

// meetLive notes that replay has met live, and appends the checkpoint that says so. In a poll, the last checkpoint does.
func (c *catchUp) meetLive() {
	c.metLive = true
	if c.writer.poll == nil {
		c.writer.appendCheckpoint(checkpointData{Live: true})
	}
}

// checkLiveLater schedules the next check whether replay has met live, if the client does not know it yet.
func (c *catchUp) checkLiveLater() {
	if c.metLive || len(c.waiting) > 0 { // with partitions that wait, the next catch-up checks
		return
	}
	c.stopRetry()
	after := slowCheck
	if c.checks < quickChecks {
		c.checks++
		after = retryAfter
	}
	c.retry = time.AfterFunc(after, c.writer.sub.requestLiveCheck)
}
