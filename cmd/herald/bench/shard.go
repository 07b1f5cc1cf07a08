package bench

import (
	"errors"
	"sync"
	"sync/atomic"

	"github.com/HdrHistogram/hdrhistogram-go"

	"herald/stream"
)

// Latencies are kept in µs, up to ten minutes, with three digits.
const (
	maxLatency    = 10 * 60 * 1_000_000
	latencyDigits = 3
)

// shard is a part of the streams and what came on them.
type shard struct {
	run  *run
	loop any // what the network keeps for it

	// Read by others while the run goes on.
	ready  atomic.Int64 // streams that have begun, but for stalled ones
	unique atomic.Int64 // events that came for the first time
	lastAt atomic.Int64 // when the last of them came (Unix, ns)

	mu sync.Mutex // guards the streams and what follows
	results
}

// results are what is counted of a part of the run.
type results struct {
	latency    *hdrhistogram.Histogram
	events     int64 // all of this run's
	duplicates int64
	outOfOrder int64
	foreign    int64 // events of others
	bytes      int64 // all that has come, in bytes
	reads      int64 // of sockets, that brought it
	gaps, ends map[string]int64
}

func newResults() results {
	return results{latency: hdrhistogram.New(1, maxLatency, latencyDigits), gaps: make(map[string]int64), ends: make(map[string]int64)}
}

// add adds what another has counted.
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

// takeResults returns what has been counted since the last call.
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

// begun counts a stream whose checkpoint has come.
func (sh *shard) begun(s *client, now int64) {
	sh.run.readyAt.Store(now)
	sh.begunCount(s).Add(1)
}

// begunCount counts the streams that have begun and are like s.
func (sh *shard) begunCount(s *client) *atomic.Int64 {
	if s.stalled {
		return &sh.run.held
	}
	return &sh.ready
}

// event counts a record that has come.
func (sh *shard) event(s *client, data []byte, now int64) {
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
	_ = sh.latency.RecordValue(min(max((now-v.sent)/1000, 1), maxLatency)) // within the bounds
	sh.unique.Add(1)
	sh.lastAt.Store(now)
}

// ended is called when a connection has ended that the client did not end, and opens the stream
// again after the server's reconnection time.
func (sh *shard) ended(s *client, err error) {
	if !s.disconnect() {
		return
	}
	reason := s.endReason(err)
	switch {
	case isRefusal(err):
		sh.run.fail(err)
		return
	case reason == string(stream.ErrTooMany): // to come back would end another one
		sh.run.fail(errors.New("the server allows a user, an address or all together fewer streams: lower --streams-per-user or --streams, or give more --source-addresses"))
		return
	}
	sh.ends[reason]++
	sh.run.again(s, s.retry, "the server ended a stream: "+reason)
}
