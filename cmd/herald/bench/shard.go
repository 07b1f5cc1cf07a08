package bench

import (
	"errors"
	"sync"
	"sync/atomic"

	"github.com/HdrHistogram/hdrhistogram-go"

	"herald/stream"
)

// The histogram of latencies counts µs, up to ten minutes, with three significant digits.
const (
	maxLatency    = 10 * 60 * 1_000_000
	latencyDigits = 3
)

// shard is a part of the streams, with their counters.
type shard struct {
	run  *run
	loop any // the network's own data for this shard

	// Other goroutines read these counters without the lock.
	ready  atomic.Int64 // streams that have begun, without stalled streams
	unique atomic.Int64 // events that have arrived, each counted once
	lastAt atomic.Int64 // when the last of these events arrived (Unix time, ns)

	mu sync.Mutex // guards the shard's streams and the results
	results
}

// results are the counts of a part of the run.
type results struct {
	latency    *hdrhistogram.Histogram
	events     int64 // events of this run's records
	duplicates int64
	outOfOrder int64
	foreign    int64 // events of other records
	bytes      int64 // bytes read, with HTTP's framing
	reads      int64 // reads of sockets that returned bytes
	gaps, ends map[string]int64
}

func newResults() results {
	return results{latency: hdrhistogram.New(1, maxLatency, latencyDigits), gaps: make(map[string]int64), ends: make(map[string]int64)}
}

// add adds the counts of o.
func (r *results) add(o *results) {
	r.latency.Merge(o.latency)
	r.events += o.events
	r.duplicates += o.duplicates
	r.outOfOrder += o.outOfOrder
	r.foreign += o.foreign
	r.bytes += o.bytes
	r.reads += o.reads
	for reason, n := range o.gaps {
		r.gaps[reason] += n
	}
	for reason, n := range o.ends {
		r.ends[reason] += n
	}
}

// takeResults returns the counts since the last call.
func (r *run) takeResults() results {
	sum := newResults()
	for _, sh := range r.shards {
		sh.mu.Lock()
		part := sh.results
		sh.results = newResults()
		sh.mu.Unlock()
		sum.add(&part)
	}
	r.total.add(&sum)
	return sum
}

// countBegunLocked counts a stream whose first checkpoint has arrived.
func (sh *shard) countBegunLocked(s *client, now int64) {
	sh.run.readyAt.Store(now)
	sh.begunStreams(s).Add(1)
}

// begunStreams returns the counter of begun streams that s belongs to.
func (sh *shard) begunStreams(s *client) *atomic.Int64 {
	if s.stalled {
		return &sh.run.held
	}
	return &sh.ready
}

// countEventLocked counts the event of a record.
func (sh *shard) countEventLocked(s *client, data []byte, now int64) {
	v, ok := parseValue(data)
	if !ok || v.run != sh.run.id || v.source != s.source {
		sh.foreign++
		return
	}
	if s.stalled {
		return
	}
	sh.events++
	switch s.got.add(v.number) {
	case again:
		sh.duplicates++
		return
	case outOfOrder:
		sh.outOfOrder++
	case inOrder:
	}
	_ = sh.latency.RecordValue(min(max((now-v.sent)/1000, 1), maxLatency)) // cannot fail: the value is within the bounds
	sh.unique.Add(1)
	sh.lastAt.Store(now)
}

// handleEndLocked is called when the server or the network has ended a connection. It opens the stream
// again after the server's reconnection time, or fails the run.
func (sh *shard) handleEndLocked(s *client, err error) {
	if !s.disconnectLocked() {
		return
	}
	reason := s.endReason(err)
	switch {
	case isRefusal(err):
		sh.run.fail(err)
		return
	case reason == string(stream.ErrTooMany): // if the stream opened again, the server would end another stream of the user
		sh.run.fail(errors.New("the server allows fewer streams for each user, for each address or in total: lower --streams-per-user or --streams, or give more --source-addresses"))
		return
	}
	sh.ends[reason]++
	sh.run.openLater(s, s.retry, "the server ended a stream: "+reason)
}
