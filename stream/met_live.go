package stream

import "time"

// A client learns once from a stream that replay has met live: it then has all records that Kafka held when the stream
// began. A catch-up says so when it ends, if it can. Otherwise the stream finds out each second: a partition may wait
// for Kafka, or the position that this replica knows may be old.

// isCurrent reports whether Kafka has confirmed within about the last second that the logs of the stream's partitions
// end where at is, or before it.
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

// hasReached reports whether the stream has considered all records before at, and none after it. A partition that waits, that is sought,
// or that this replica does not read has not been reached.
func (c *catchUp) hasReached(at cursor) bool {
	if len(c.waiting) > 0 || c.sub.isBehind() { // for example because a partition was added
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

// meetLive notes that replay has met live, and tells the client. A poll tells it at its end.
func (c *catchUp) meetLive() {
	c.live = true
	if c.writer.poll == nil {
		c.writer.appendCheckpoint(checkpointData{Live: true})
	}
}

// checkLiveLater has a stream that is not live find out again whether it is.
func (c *catchUp) checkLiveLater() {
	if c.live || len(c.waiting) > 0 { // the next catch-up finds out
		return
	}
	c.stopRetry()
	c.retry = time.AfterFunc(retryAfter, c.sub.requestLiveCheck)
}
