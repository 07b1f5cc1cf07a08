package consumer

import (
	"context"
	"herald/consumer/broker"
	"time"
)

const stallAfter = 30 * time.Second // without progress a partition with records to read has stalled

// watch looks for partitions that do not move although they have records to read, which no error
// tells: it says so and has them read anew. It asks Kafka for the ends of those partitions only
// that have not moved for a while, users' own too.
func (r *liveReader) watch(ctx context.Context) {
	suspects := make(map[*livePartition]int64) // the next offset of those that had records to read at the last look
	for ctx.Err() == nil {
		pause(ctx, r.stallAfter/3)
		suspects = r.look(ctx, suspects)
	}
}

// look is one look of watch, which returns the next one's suspects.
func (r *liveReader) look(ctx context.Context, suspects map[*livePartition]int64) map[*livePartition]int64 {
	c := r.consumer
	quiet := make(map[*livePartition]int64)
	ask := make(broker.OffsetQuery)
	for _, f := range r.all() {
		next, moved := f.position()
		if time.Since(moved) < r.stallAfter {
			continue
		}
		quiet[f] = next
		if leader, _, err := c.leader(f.Partition); err == nil {
			ask.Add(leader, f.Partition, broker.LatestOffset)
		}
	}
	ends, err := c.cluster.ListOffsets(ctx, ask)
	if err != nil {
		c.log.Debug("list offsets of partitions that do not move", "partitions", len(quiet), "error", err)
	}
	still := make(map[*livePartition]int64)
	stalled := make(map[int32][]*livePartition) // by leader
	count := 0
	for f, next := range quiet {
		was, suspected := suspects[f]
		suspected = suspected && was == next
		end, ok := ends[f.Partition]
		if !ok { // Kafka's absence is told elsewhere
			if suspected {
				still[f] = next
			}
			continue
		}
		if now, _ := f.position(); end <= next || now != next {
			continue
		}
		still[f] = next
		f.mu.Lock()
		f.end = end
		f.mu.Unlock()
		if suspected {
			leader, _, _ := c.leader(f.Partition)
			stalled[leader] = append(stalled[leader], f)
			count++
		}
	}
	c.metrics.stalled.Set(float64(count))
	for leader, list := range stalled {
		f := list[0]
		c.log.Error("partitions do not move; they are read anew", "broker", leader, "partitions", len(list),
			"topic", f.Topic, "partition", f.ID, "offset", quiet[f], "end", ends[f.Partition])
		for _, f := range list {
			r.forsake(f)
			r.park(f)
		}
	}
	return still
}
