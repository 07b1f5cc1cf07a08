package stream

import (
	"context"
	"time"

	"herald/consumer"
)

// Limits bound the records that a returning client gets. A gap reports the records left out. A zero value is no
// limit.
type Limits struct {
	Age     time.Duration // the age of the oldest record
	Records int64         // the number of offsets of a partition, records of other users included
}

// applyLimits moves fresh positions to the offsets at which the stream begins. A sought position moves back to the
// offset that Kafka names. Then each position moves forward to the first offset that the limits allow, and a gap
// reports the records left out. Partitions for which Kafka does not answer wait.
func (c *catchUp) applyLimits(ctx context.Context, seam cursor) error {
	limits := *c.env.limits.Load()
	fresh := c.freshRanges(seam, limits)
	if len(fresh) == 0 {
		return nil
	}
	var seeking, all []consumer.Partition // only these, because the question is repeated each second for partitions that wait
	for _, r := range fresh {
		all = append(all, r.Partition)
		if c.writer.cursor.topic(r.Topic).isSought(r.ID) {
			seeking = append(seeking, r.Partition)
		}
	}
	var sought, young offsets
	ask := func(ctx context.Context) error {
		if len(seeking) > 0 {
			since, _ := c.writer.cursor.since()
			sought = c.offsetsAt(ctx, seeking, sinceTime(since))
		}
		if limits.Age > 0 {
			young = c.offsetsAt(ctx, all, time.Now().Add(-limits.Age))
		}
		return nil
	}
	if len(seeking) > 0 || limits.Age > 0 {
		if err := c.writer.withHeartbeats(ctx, ask); err != nil {
			return err
		}
	}
	for _, r := range fresh {
		at, from := c.writer.cursor.topic(r.Topic), r.Next
		to, ok := young.of(r.Partition)
		if at.isSought(r.ID) {
			begin, told := sought.of(r.Partition)
			from, ok = min(from, begin), ok && told
		}
		if !ok {
			c.postpone(r.Topic, r.ID)
			continue
		}
		if limits.Records > 0 {
			to = max(to, r.To-limits.Records)
		}
		to = max(from, min(to, r.To))
		at.acceptPosition(r.ID, to)
		if from < to {
			c.writer.appendGap(gapData{r.Topic, &gapRange{r.ID, from, to}, consumer.GapReplayLimit})
		}
	}
	return nil
}

// freshRanges returns the ranges between the cursor and the seam of partitions whose position is fresh. It accepts
// positions that are at the seam already, unless they are sought, because limits leave out nothing there.
func (c *catchUp) freshRanges(seam cursor, limits Limits) (fresh []consumer.Range) {
	if _, seeks := c.writer.cursor.since(); !seeks && limits == (Limits{}) {
		return nil
	}
	for i := range seam {
		at := &c.writer.cursor[i]
		if !at.isSame(seam[i].incarnation) {
			continue // it is not certain yet which incarnation is the right one
		}
		for _, p := range seam[i].positions {
			if !at.isFresh(p.partition) || !at.hasPartition(p.partition) || c.isWaiting(at.name, p.partition) {
				continue
			}
			r := consumer.Range{Partition: consumer.Partition{Topic: at.name, ID: p.partition}, Next: at.nextOffset(p.partition), To: p.next}
			if end, short := c.tally.ends[r.Partition]; short {
				r.To = min(r.To, end)
			}
			if r.Next < r.To || at.isSought(p.partition) {
				fresh = append(fresh, r)
			} else {
				at.acceptPosition(p.partition, r.Next)
			}
		}
	}
	return fresh
}

// offsets holds for each partition the offset of the first record at a time or later. A nil map stands for a time
// before all records.
type offsets map[consumer.Partition]int64

func (c *catchUp) offsetsAt(ctx context.Context, partitions []consumer.Partition, t time.Time) offsets {
	first, _ := c.env.kafka.Since(ctx, partitions, t) // partitions without an answer wait, whatever the error
	if first == nil {
		first = make(map[consumer.Partition]int64)
	}
	return first
}

// of returns false if Kafka did not answer for the partition, or answered from outdated metadata that the topic
// does not exist.
func (o offsets) of(p consumer.Partition) (offset int64, ok bool) {
	offset, ok = o[p]
	return offset, ok || o == nil
}
