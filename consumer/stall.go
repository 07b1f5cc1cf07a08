package consumer

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"herald/consumer/broker"
)

// stallAfter is how long a partition with records to read may not move before it counts as stalled, unless it waits for
// its turn.
const stallAfter = 30 * time.Second

// suspect is a partition that had records to read at the last check and had not moved for stallAfter.
type suspect struct {
	offset  int64     // the next offset
	since   turnCount // when the suspicion began, or when the partition was last read again
	stalled bool
}

// watchStalls finds partitions that do not move although they have records to read, which no error reports.
// It logs them and has them read again. It asks Kafka for the ends of only those partitions that have not
// moved for a while, users' own topics included.
func (r *liveReader) watchStalls(ctx context.Context) {
	suspects := make(map[*livePartition]suspect)
	for ctx.Err() == nil {
		pause(ctx, r.stallAfter/3)
		suspects = r.checkStalls(ctx, suspects)
	}
}

// checkStalls has the suspects that still have not moved read again, unless they wait for their turn. It returns the
// suspects for the next check.
func (r *liveReader) checkStalls(ctx context.Context, suspects map[*livePartition]suspect) map[*livePartition]suspect {
	quiet, ends := r.listQuietEnds(ctx)
	next := make(map[*livePartition]suspect)
	stalled := make(map[int32][]*livePartition) // by leader
	count := 0
	for p, offset := range quiet {
		s, suspected := suspects[p]
		suspected = suspected && s.offset == offset
		end, ok := ends[p.Partition]
		if !ok { // no answer; other lines of the log report that
			if suspected {
				next[p] = s
			}
			continue
		}
		at := r.turnsOf(p) // before the position, so that the partition has moved if the last turn was its own
		if now, _ := p.position(); end <= offset || now != offset {
			continue
		}
		p.mu.Lock()
		p.logEnd = end
		p.mu.Unlock()
		switch {
		case !suspected:
			s = suspect{offset: offset, since: at}
		case r.awaitsSchema(p) || at.mayBeWaiting(s.since):
			s.stalled = false
		case at.shard != nil && at.shard != s.since.shard: // it has begun to wait in another line
			s.since = at
		default:
			s.since, s.stalled = at, true
			leader, _, _ := r.topics.leaderOf(p.Partition)
			stalled[leader] = append(stalled[leader], p)
		}
		if next[p] = s; s.stalled {
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

// turnCount says what the answers to the fetches of a shard had brought by some time. A broker takes the partitions of a
// fetch session in turns (KIP-227). If many of them lag far, a partition can wait for its turn for longer than stallAfter.
// If Herald read it again, it would go to the end of the line.
type turnCount struct {
	shard      *shard
	partitions int // of the shard
	bytes      int64
	room       int
}

// turnsOf returns the turns of the partition's shard up to now. The zero value says that the partition is in no shard.
func (r *liveReader) turnsOf(p *livePartition) turnCount {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p.shard == nil {
		return turnCount{}
	}
	return turnCount{p.shard, len(p.shard.partitions), p.shard.bytes, p.shard.room}
}

// mayBeWaiting reports whether a partition that has not moved since then may be waiting for its turn: no answer had room
// for its records, and the others have not had four turns each. Kafka 2.7 gives them up to two.
func (t turnCount) mayBeWaiting(since turnCount) bool {
	got := t.bytes - since.bytes
	return t.shard == since.shard && t.room == since.room && 0 < got && got <= 4*int64(t.partitions)*fetchPartBytes
}

// countAnswer counts an answer with so many bytes of records, once they are delivered. The limit of an answer may be lower
// than the one that Herald asks for, so only small answers certainly had room.
func (r *liveReader) countAnswer(s *shard, size int, res *kmsg.FetchResponse) {
	if size == 0 && throttle(res) > 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s.bytes += int64(size)
	if size == 0 || size < min(bulkBytes, int(r.options.maxBytes)/2) {
		s.room++
	}
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
