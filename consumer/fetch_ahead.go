package consumer

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"herald/consumer/batch"
)

// answer is what a fetch came to.
type answer struct {
	res *kmsg.FetchResponse
	err error
}

// fetching is a fetch that is under way.
type fetching struct {
	answered chan answer
	cancel   context.CancelFunc
	long     bool
}

// fetch begins to fetch want. A shard that nothing was added to for a while has the broker wait
// longer: Kafka looks at all of a session's partitions at each fetch, news or not.
func (r *liveReader) fetch(s *shard, session *fetchSession, want map[topicIDPartition]int64) *fetching {
	r.mu.Lock()
	quiet := time.Since(s.joined) > quietAfter
	r.mu.Unlock()
	ctx, cancel := context.WithCancel(r.ctx)
	f := &fetching{make(chan answer, 1), cancel, quiet}
	wait := fetchMaxWait
	if f.long {
		wait = quietMaxWait
	}
	go func() {
		begun := time.Now()
		res, err := session.fetch(ctx, want, wait)
		if err == nil {
			r.consumer.metrics.fetches.Observe(time.Since(begun).Seconds())
		}
		f.answered <- answer{res, err}
	}()
	return f
}

// await waits for the answer. A long wait is interrupted when a partition is added to the shard: the
// connection is left to the broker until it answers, and the session begun anew.
func (r *liveReader) await(s *shard, f *fetching) (got answer, interrupted bool) {
	defer f.cancel()
	for {
		select {
		case got = <-f.answered:
			return got, false
		case <-s.wake:
			if f.long && r.changed(s) {
				f.cancel()
				got = <-f.answered
				return got, got.err != nil
			}
		}
	}
}

// bulkBytes is how much an answer has at least for the next fetch to be sent before it is delivered:
// then there is probably more, and broker and reader work at the same time.
const bulkBytes = 256 << 10

// mostAhead is how many sessions fetch ahead at a time. Each has a second answer in memory.
const mostAhead = 4

// ahead says whether the session may fetch before its last answer is delivered: it stays among those that
// do until alone is called.
func (r *liveReader) ahead(s *fetchSession) bool {
	if !s.ahead {
		s.ahead = r.aheads.Add(1) <= mostAhead
		if !s.ahead {
			r.aheads.Add(-1)
		}
	}
	return s.ahead
}

// alone ends that.
func (r *liveReader) alone(s *fetchSession) {
	if s.ahead {
		s.ahead, s.other = false, nil
		r.aheads.Add(-1)
	}
}

// foresee moves want to where the next fetch will begin if all of the answer can be read, by the
// batches' headers alone. It returns what was asked for, and whether the answer is a large one.
func foresee(want map[topicIDPartition]int64, res *kmsg.FetchResponse) (asked map[topicIDPartition]int64, bulk bool) {
	asked = make(map[topicIDPartition]int64)
	size := 0
	for i := range res.Topics {
		t := &res.Topics[i]
		for j := range t.Partitions {
			at := topicIDPartition{t.TopicID, t.Partitions[j].Partition}
			offset, ok := want[at]
			if !ok {
				continue
			}
			asked[at] = offset
			want[at] = batch.EndOffset(t.Partitions[j].RecordBatches, offset)
			size += len(t.Partitions[j].RecordBatches)
		}
	}
	return asked, size >= bulkBytes
}
