package consumer

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"herald/consumer/batch"
)

// fetchAnswer is the outcome of a fetch.
type fetchAnswer struct {
	res *kmsg.FetchResponse
	err error
}

// pendingFetch is a fetch that is under way.
type pendingFetch struct {
	answered chan fetchAnswer
	cancel   context.CancelFunc
	long     bool // the broker waits for quietMaxWait
}

// startFetch sends a fetch of the partitions in want. The broker waits longer for records if no partition
// was added to the shard for a while, because Kafka looks at all partitions of a session at each fetch, even
// without new records.
func (r *liveReader) startFetch(s *shard, session *fetchSession, want map[topicIDPartition]int64) *pendingFetch {
	r.mu.Lock()
	quiet := time.Since(s.joined) > quietAfter
	r.mu.Unlock()
	ctx, cancel := context.WithCancel(r.ctx)
	f := &pendingFetch{make(chan fetchAnswer, 1), cancel, quiet}
	wait := fetchMaxWait
	if f.long {
		wait = quietMaxWait
	}
	go func() {
		begun := time.Now()
		res, err := session.fetch(ctx, want, wait)
		if err == nil {
			r.metrics.fetches.Observe(time.Since(begun).Seconds())
		}
		f.answered <- fetchAnswer{res, err}
	}()
	return f
}

// awaitFetch waits for the answer. It interrupts a long wait when a partition is added to the shard. The
// connection is then left to the broker until the broker answers, and the session begins again.
func (r *liveReader) awaitFetch(s *shard, f *pendingFetch) (got fetchAnswer, interrupted bool) {
	defer f.cancel()
	for {
		select {
		case got = <-f.answered:
			return got, false
		case <-s.wake:
			if f.long && r.hasChanged(s) {
				f.cancel()
				got = <-f.answered
				return got, got.err != nil
			}
		}
	}
}

// bulkBytes is the size of a response from which more records probably follow. Then the next fetch is sent
// before the response is delivered, so that the broker and Herald work at the same time.
const bulkBytes = 256 << 10

// maxSessionsAhead is how many sessions may fetch ahead at a time. Each holds a second response in memory.
const maxSessionsAhead = 4

// mayFetchAhead reports whether the session may fetch before its last response is delivered. A session that
// may keeps the right until stopFetchingAhead.
func (r *liveReader) mayFetchAhead(s *fetchSession) bool {
	if !s.ahead {
		s.ahead = r.aheads.Add(1) <= maxSessionsAhead
		if !s.ahead {
			r.aheads.Add(-1)
		}
	}
	return s.ahead
}

// stopFetchingAhead gives the right to fetch ahead back, with the memory of the second response.
func (r *liveReader) stopFetchingAhead(s *fetchSession) {
	if s.ahead {
		s.ahead, s.other = false, nil
		r.aheads.Add(-1)
	}
}

// foresee moves want to the offsets after the response, by the headers of its batches alone. That is right
// if all batches can be read. It returns the offsets that were asked for, and the bytes of the response's records.
func foresee(want map[topicIDPartition]int64, res *kmsg.FetchResponse) (asked map[topicIDPartition]int64, size int) {
	asked = make(map[topicIDPartition]int64)
	for i := range res.Topics {
		t := &res.Topics[i]
		for j := range t.Partitions {
			key := topicIDPartition{t.TopicID, t.Partitions[j].Partition}
			offset, ok := want[key]
			if !ok {
				continue
			}
			asked[key] = offset
			want[key] = batch.EndOffset(t.Partitions[j].RecordBatches, offset)
			size += len(t.Partitions[j].RecordBatches)
		}
	}
	return asked, size
}
