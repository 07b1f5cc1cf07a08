package stream

import (
	"context"
	"sync/atomic"
	"time"
)

// service holds what all streams of a handler share, divided by the part of a stream that uses it. A part
// has a pointer to its own share only.
type service struct {
	writers  writerEnv
	catchUps catchUpEnv
	streams  streamEnv
}

// writerEnv is what the event writers of all streams share.
type writerEnv struct {
	metrics   *metrics
	kafka     Kafka         // is informed of delivered records
	heartbeat time.Duration // between heartbeats while a stream waits for Kafka
}

// catchUpEnv is what the catch-ups of all streams share.
type catchUpEnv struct {
	hub    *Hub
	kafka  Kafka
	limits atomic.Pointer[Limits]

	replaying atomic.Int32 // the number of streams in catchUp.replayOnce
}

// replayPiece returns how many bytes of its replay each stream collects at present before it sends them.
func (e *catchUpEnv) replayPiece() int {
	return max(minReplayPiece, min(maxReplayPiece, replayBytes/max(1, int(e.replaying.Load()))))
}

// streamEnv is what the life cycles of all streams share.
type streamEnv struct {
	hub      *Hub
	kafka    Kafka
	life     context.Context            //nolint:containedctx // the life of all streams
	longIDs  *longIDs                   // nil: nothing warns of long ids
	overflow func(*subscription)        // counts a queue that is full
	spawn    func(fn func())            // starts a goroutine
	schedule func(*clientStream)        // has a stream served; it does not wait
	closed   func(*clientStream, error) // is called once for each stream, with the reason of its end
}

// newService returns a service that starts goroutines for its streams, but has no engine that serves them
// and nothing that learns of their end: the caller sets schedule and closed.
func newService(life context.Context, hub *Hub, kafka Kafka, heartbeat time.Duration, limits Limits) *service {
	s := &service{
		writers:  writerEnv{metrics: hub.metrics, kafka: kafka, heartbeat: heartbeat},
		catchUps: catchUpEnv{hub: hub, kafka: kafka},
		streams: streamEnv{
			hub: hub, kafka: kafka, life: life,
			overflow: func(*subscription) { hub.metrics.overflows.Inc() },
			spawn:    func(fn func()) { go fn() },
			schedule: func(*clientStream) {},
			closed:   func(*clientStream, error) {},
		},
	}
	s.catchUps.limits.Store(&limits)
	return s
}
