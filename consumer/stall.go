package consumer

import (
	"context"
	"time"

	"herald/consumer/broker"
)

// stallAfter is how long a partition with records to read may not move before it counts as stalled, unless it waits for
// its turn.
const stallAfter = 30 * time.Second

// watchStalls finds partitions that do not move although they have records to read, which no error reports.
// It logs them and has them read again. It asks Kafka for the ends of only those partitions that have not
// moved for a while, users' own topics included.
func (r *liveReader) watchStalls(ctx context.Context) {
	suspects := make(map[*livePartition]int64) // partitions that had records to read at the last check, with their next offsets
	for ctx.Err() == nil {
		pause(ctx, r.stallAfter/3)
		suspects = r.checkStalls(ctx, suspects)
	}
}

// checkStalls has the suspects that still have not moved read again. It returns the suspects for the next
// check.
func (r *liveReader) checkStalls(ctx context.Context, suspects map[*livePartition]int64) map[*livePartition]int64 {
	quiet, ends := r.listQuietEnds(ctx)
	next := make(map[*livePartition]int64)
	stalled := make(map[int32][]*livePartition) // by leader
	count := 0
	for p, offset := range quiet {
		was, suspected := suspects[p]
		suspected = suspected && was == offset
		end, ok := ends[p.Partition]
		if !ok { // no answer; other lines of the log report that
			if suspected {
				next[p] = offset
			}
			continue
		}
		if now, _ := p.position(); end <= offset || now != offset {
			continue
		}
		next[p] = offset
		p.mu.Lock()
		p.logEnd = end
		p.mu.Unlock()
		if suspected && !r.awaitsSchema(p) && !r.waitsForTurn(p) {
			leader, _, _ := r.topics.leaderOf(p.Partition)
			stalled[leader] = append(stalled[leader], p)
			count++
		}
	}
	r.metrics.stalled.Set(float64(count))
	for leader, list := range stalled {
		p := list[0]
		r.log.Error("partitions do not move; reading them again", "broker", leader, "partitions", len(list),
			"topic", p.Topic, "partition", p.ID, "offset", quiet[p], "end", ends[p.Partition])
		for _, p := range list {
			r.forsakeFollower(p)
			r.park(p)
		}
	}
	return next
}

// waitsForTurn reports whether the partition may not move because others of its shard have records for whole answers. The
// broker takes the partitions in turns (KIP-227), and a shard of many that lag far can need longer than stallAfter until
// all have had theirs. A partition that is read again would lose its place in the line.
func (r *liveReader) waitsForTurn(p *livePartition) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return p.shard != nil && time.Since(p.shard.filled) < r.stallAfter
}

// listQuietEnds returns the partitions that have not moved for stallAfter, each with its next offset. It asks the
// leaders of these partitions where the logs end, and returns the ends that they report. A partition has no end
// if its leader did not answer.
func (r *liveReader) listQuietEnds(ctx context.Context) (quiet map[*livePartition]int64, ends map[Partition]int64) {
	quiet = make(map[*livePartition]int64)
	query := make(broker.OffsetQuery)
	for _, p := range r.livePartitions() {
		next, moved := p.position()
		if time.Since(moved) < r.stallAfter {
			continue
		}
		quiet[p] = next
		if leader, _, err := r.topics.leaderOf(p.Partition); err == nil {
			query.Add(leader, p.Partition, broker.LatestOffset)
		}
	}
	ends, err := r.cluster.ListOffsets(ctx, query)
	if err != nil {
		r.log.Debug("list offsets of quiet partitions failed", "partitions", len(quiet), "error", err)
	}
	return quiet, ends
}
