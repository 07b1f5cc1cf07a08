package consumer

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"herald/consumer/broker"
)

// stallAfter is how long a partition that has records to read stands still before it counts as stalled, unless it waits
// for its turn.
const stallAfter = 30 * time.Second

// suspect is a partition that had records to read at the last check and had not moved for stallAfter.
type suspect struct {
	offset  int64     // the next offset
	since   turnCount // the count when the suspicion began, or when the partition was last read again
	stalled bool      // it was reported
}

// judge returns the suspect after a check at which it had not moved. again says that it must be read again.
func (s suspect) judge(at turnCount, awaitsSchema bool) (after suspect, again bool) {
	switch {
	case awaitsSchema: // it will join the end of a line
		s.since, s.stalled = at, false
	case at.mayBeWaiting(s.since): // if it was reported, it counts as stalled until it moves
	case at.shard != nil && at.shard != s.since.shard: // it has begun to wait in another line
		s.since = at
	default:
		s.since, s.stalled, again = at, true, true
	}
	return s, again
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
	again := make(map[int32][]*livePartition) // by leader
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
		at := r.turnsOf(p) // before the position: if the last answer counted had records of p, the position shows it
		if now, _ := p.position(); end <= offset || now != offset {
			continue
		}
		p.mu.Lock()
		p.logEnd = end
		p.mu.Unlock()
		if !suspected {
			next[p] = suspect{offset: offset, since: at}
			continue
		}
		s, stalled := s.judge(at, r.awaitsSchema(p))
		if next[p] = s; stalled {
			leader, _, _ := r.topics.leaderOf(p.Partition)
			again[leader] = append(again[leader], p)
		}
	}
	count := 0
	for _, s := range next {
		if s.stalled {
			count++
		}
	}
	r.metrics.stalled.Set(float64(count))
	for leader, list := range again {
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

// turnCount is a snapshot of what the answers to the fetches of a shard have brought so far. A broker takes the partitions
// of a fetch session in turns (KIP-227). If many of them lag far, a partition can wait for its turn for longer than
// stallAfter. If Herald read it again, it would go to the end of the line.
type turnCount struct {
	shard      *shard
	partitions int // of the shard
	answers    int
	room       int // how many answers certainly had room for records of further partitions
	bytes      int64
}

// turnsOf returns the present count of the partition's shard. The zero value says that the partition is in no shard.
func (r *liveReader) turnsOf(p *livePartition) turnCount {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p.shard == nil {
		return turnCount{}
	}
	t := p.shard.turns
	t.shard, t.partitions = p.shard, len(p.shard.partitions)
	return t
}

// mayBeWaiting reports whether a partition that has not moved since an earlier count may be waiting for its turn: there
// were answers, none had room for its records, and they do not hold four turns of each partition. One answer with room may
// have been under way before the partition had records. Kafka 2.7 gives each other partition two turns, and more if the
// partition gets further records meanwhile.
func (t turnCount) mayBeWaiting(since turnCount) bool {
	return t.shard == since.shard && t.answers > since.answers && t.room <= since.room+1 &&
		t.bytes-since.bytes <= 4*int64(t.partitions)*fetchPartBytes
}

// countAnswer counts an answer whose records have size bytes. It must be called after their delivery, because their
// partitions move only then. The broker may use a lower limit than Herald asks for, so only a small answer certainly had
// room. An answer that a quota delays is empty: the broker has not looked at the partitions.
func (r *liveReader) countAnswer(s *shard, size int, res *kmsg.FetchResponse) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s.turns.answers++
	s.turns.bytes += int64(size)
	delayed := size == 0 && throttle(res) > 0
	if !delayed && size < min(bulkBytes, int(r.options.maxBytes)/2) {
		s.turns.room++
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
