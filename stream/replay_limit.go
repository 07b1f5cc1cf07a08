package stream

import (
	"context"
	"time"

	"herald/consumer"
)

// Limits bound what a client that comes back is sent; what is older is told as a gap. Zero values
// are no limits.
type Limits struct {
	Age     time.Duration // of records
	Records int64         // offsets of a partition, whoever they are for
}

// limit moves positions that are fresh to where the stream is to begin. Those that are sought go back to
// where Kafka tells; all go up to where the limits allow, and what that leaves out is told. Partitions for
// which Kafka has no answer wait.
func (c *catchUp) applyLimits(ctx context.Context, seam cursor) error {
	fresh := c.freshRanges(seam)
	if len(fresh) == 0 {
		return nil
	}
	var seeking, all []consumer.Partition // no others: what waits is asked for each second
	for _, r := range fresh {
		all = append(all, r.Partition)
		if c.writer.cursor.topic(r.Topic).isSought(r.ID) {
			seeking = append(seeking, r.Partition)
		}
	}
	var sought, young offsets
	err := c.writer.withHeartbeats(ctx, func(ctx context.Context) error {
		if len(seeking) > 0 {
			since, _ := c.writer.cursor.since()
			sought = c.offsetsAt(ctx, seeking, sinceTime(since))
		}
		if c.env.limits.Age > 0 {
			young = c.offsetsAt(ctx, all, time.Now().Add(-c.env.limits.Age))
		}
		return nil
	})
	if err != nil {
		return err
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
		if c.env.limits.Records > 0 {
			to = max(to, r.To-c.env.limits.Records)
		}
		to = max(from, min(to, r.To))
		at.acceptPosition(r.ID, to)
		if from < to {
			c.writer.appendGap(gapData{r.Topic, &gapRange{r.ID, from, to}, consumer.GapReplayLimit})
		}
	}
	return c.writer.flush()
}

// fresh returns what lies between the cursor and the seam of partitions whose position is fresh. Those that
// are at the seam it holds, unless they are sought: limits leave nothing of them out.
func (c *catchUp) freshRanges(seam cursor) (fresh []consumer.Range) {
	if _, seeks := c.writer.cursor.since(); !seeks && c.env.limits == (Limits{}) {
		return nil
	}
	for i := range seam {
		at := &c.writer.cursor[i]
		if at.incarnationTag != seam[i].incarnationTag {
			continue // it is not certain yet which topic that is
		}
		for _, p := range seam[i].positions {
			if !at.isFresh(p.partition) || !at.hasPartition(p.partition) || c.isWaiting(at.name, p.partition) {
				continue
			}
			r := consumer.Range{Partition: consumer.Partition{Topic: at.name, ID: p.partition}, Next: at.nextOffset(p.partition), To: p.next}
			if end, short := c.ends[r.Partition]; short {
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

// offsets are those of the first records at a time or later; nil is of a time before all.
type offsets map[consumer.Partition]int64

func (c *catchUp) offsetsAt(ctx context.Context, partitions []consumer.Partition, t time.Time) offsets {
	first, _ := c.env.kafka.Since(ctx, partitions, t) // what it does not tell waits, whatever the reason
	if first == nil {
		first = make(map[consumer.Partition]int64)
	}
	return first
}

// of returns false if Kafka had no answer, or an outdated one: that there is no such topic.
func (o offsets) of(p consumer.Partition) (offset int64, ok bool) {
	offset, ok = o[p]
	return offset, ok || o == nil
}
