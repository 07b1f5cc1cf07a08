package stream

import (
	"runtime"
	"sync"
)

// engine serves the streams that have something to do. An idle stream has no goroutine. A few workers write
// what can be written without waiting; they run only while a stream has something to do. A stream that must wait,
// for Kafka or for a slow client, gets a goroutine of its own ([clientStream.serveSlow]).
//
// One goroutine at a time serves a stream: the stream is busy from schedule until [subscription.release].
type engine struct {
	mu         sync.Mutex
	added      []*clientStream
	now        []*clientStream // the streams whose turn it is; those before next have been served
	next       int
	workers    int
	maxWorkers int
}

func newEngine() *engine { return &engine{maxWorkers: runtime.GOMAXPROCS(0)} }

// schedule has a worker serve the stream. It does not wait.
func (e *engine) schedule(f *clientStream) {
	e.mu.Lock()
	e.added = append(e.added, f)
	idle := e.workers < e.maxWorkers
	if idle {
		e.workers++
	}
	e.mu.Unlock()
	if idle {
		go e.work()
	}
}

func (e *engine) work() {
	var batch [engineBatch]*clientStream
	for n := e.takeStreams(batch[:]); n > 0; n = e.takeStreams(batch[:]) {
		for _, f := range batch[:n] {
			f.serveQuick()
		}
	}
}

// engineBatch is the most streams that a worker takes at once. The lock then costs little beside the serving.
const engineBatch = 16

// takeStreams takes the next streams to serve, and leaves the other workers their share. If there are none, it
// returns 0, and the worker must end.
func (e *engine) takeStreams(batch []*clientStream) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.next == len(e.now) {
		e.now, e.added, e.next = e.added, e.now[:0], 0
	}
	waiting := e.now[e.next:]
	if len(waiting) == 0 {
		e.workers--
		return 0
	}
	share := (len(waiting) + e.maxWorkers - 1) / e.maxWorkers
	n := copy(batch, waiting[:share])
	clear(waiting[:n])
	e.next += n
	return n
}
