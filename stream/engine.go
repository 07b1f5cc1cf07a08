package stream

import (
	"runtime"
	"sync"
)

// engine serves the streams that have something to do. An idle stream has no goroutine: a few workers,
// which live while there is something to do, write what can be written without waiting. What must
// wait, for Kafka or for a slow client, gets a goroutine of its own ([clientStream.serveSlow]).
//
// A stream is served by one of them at a time: it is busy from when it is added until
// [subscription.release].
type engine struct {
	mu         sync.Mutex
	added      []*clientStream
	now        []*clientStream // those of them whose turn it is, from at on
	at         int
	workers    int
	maxWorkers int // workers
}

func newEngine() *engine { return &engine{maxWorkers: runtime.GOMAXPROCS(0)} }

// schedule has a stream served. It does not wait.
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
	for f := e.nextStream(); f != nil; f = e.nextStream() {
		f.serveQuick()
	}
}

// nextStream returns the stream to serve; nil if there is none: then the worker has ended.
func (e *engine) nextStream() *clientStream {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.at == len(e.now) {
		e.now, e.added, e.at = e.added, e.now[:0], 0
	}
	if e.at == len(e.now) {
		e.workers--
		return nil
	}
	f := e.now[e.at]
	e.now[e.at] = nil
	e.at++
	return f
}
