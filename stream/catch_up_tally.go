package stream

import (
	"time"

	"herald/consumer"
)

// catchUpTally is what a catch-up remembers until the stream has met the live records. Partitions that wait for Kafka
// make a catch-up take several runs.
type catchUpTally struct {
	began   time.Time
	records int  // the records replayed
	missed  bool // there were offsets to replay

	ends map[consumer.Partition]int64 // of logs that turned out shorter than this replica has read; of one run
}

// beginTally begins a run of the catch-up.
func (c *catchUp) beginTally() {
	if c.tally == nil {
		c.tally = &catchUpTally{began: time.Now()}
	}
	c.tally.ends = nil
}

// endTally ends the catch-up. metLive says that the stream has met the live records. Catch-ups of streams that missed
// no offset are not counted: almost every new stream has one, and they would hide the others.
func (c *catchUp) endTally(metLive bool) {
	if m := c.writer.env.metrics; metLive && c.tally.missed {
		m.replayDuration.Observe(time.Since(c.tally.began).Seconds())
		m.replayRecords.Observe(float64(c.tally.records))
	}
	c.tally = nil
}
