package consumer

import (
	"log/slog"
	"sync"
	"time"
)

const (
	refusalsWindow = time.Second                 // partitions that are refused within it share a line of the log
	failureMemory  = fetchBackoff + quietMaxWait // without a failure of any session, a broker that answers is read again
)

// brokerLog are what the log says of brokers that fail and of partitions that they refuse: a line for an
// event and a broker, not one for each of thousands of partitions or for each session.
type brokerLog struct {
	window time.Duration // but for tests it is refusalsWindow

	mu      sync.Mutex
	failing map[int32]time.Time // by broker: when a request failed last, until it is read again
	refused map[refusal]*refusals
}

// refusal is what a line is about.
type refusal struct {
	broker int32
	level  slog.Level
	err    string
}

// refusals are the partitions of a line.
type refusals struct {
	count   int
	example Position
}

// failed tells that a broker cannot be read: once until it is read again. example is one of the
// partitions that should have been; so many beside those that are read there wait to begin.
func (r *liveReader) failed(broker int32, waiting int, example Position, err error) {
	if r.ctx.Err() != nil {
		return
	}
	r.brokerLog.mu.Lock()
	_, again := r.brokerLog.failing[broker]
	r.brokerLog.failing[broker] = time.Now()
	r.brokerLog.mu.Unlock()
	level := slog.LevelWarn
	if again {
		level = slog.LevelDebug
	}
	sessions, partitions := r.sizes(broker)
	r.consumer.log.Log(r.ctx, level, "broker cannot be read; it is tried again", "broker", broker, "sessions", sessions, "partitions", partitions+waiting,
		"topic", example.Topic, "partition", example.ID, "offset", example.Offset, "error", err)
}

// answered tells that a broker is read again, if it could not be.
func (r *liveReader) answered(broker int32) {
	r.brokerLog.mu.Lock()
	last, failing := r.brokerLog.failing[broker]
	again := failing && time.Since(last) > failureMemory
	if again {
		delete(r.brokerLog.failing, broker)
	}
	r.brokerLog.mu.Unlock()
	if again {
		sessions, partitions := r.sizes(broker)
		r.consumer.log.Info("broker is read again", "broker", broker, "sessions", sessions, "partitions", partitions)
	}
}

// sizes returns how many sessions and partitions are read from the broker.
func (r *liveReader) sizes(broker int32) (sessions, partitions int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, users := range []bool{false, true} {
		for _, s := range r.shards[shardKey{broker, users}] {
			if len(s.partitions) > 0 {
				sessions++
				partitions += len(s.partitions)
			}
		}
	}
	return sessions, partitions
}

// tellRefused tells that a broker refuses the partition, together with others of the next moment.
func (r *liveReader) tellRefused(what refusal, at Position) {
	t := &r.brokerLog
	t.mu.Lock()
	defer t.mu.Unlock()
	if same := t.refused[what]; same != nil {
		same.count++
		return
	}
	t.refused[what] = &refusals{1, at}
	r.wg.Go(func() {
		pause(r.ctx, t.window)
		t.mu.Lock()
		all := *t.refused[what]
		delete(t.refused, what)
		t.mu.Unlock()
		r.consumer.log.Log(r.ctx, what.level, "partitions are not read; they are tried again", "broker", what.broker, "partitions", all.count,
			"topic", all.example.Topic, "partition", all.example.ID, "offset", all.example.Offset, "error", what.err)
	})
}
