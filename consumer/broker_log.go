package consumer

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

const (
	// refusalWindow is how long partitions that a broker refuses are collected into one log line.
	refusalWindow = time.Second
	// failureMemory is how long every session must do without a failure before a broker that answers counts
	// as read again.
	failureMemory = fetchBackoff + quietMaxWait
)

// brokerLog logs brokers that fail and partitions that brokers refuse. It writes one line for an event and a
// broker, not one for each of thousands of partitions or for each session.
type brokerLog struct {
	log    *slog.Logger
	count  func(broker int32) (sessions, partitions int) // the sessions and partitions read from the broker
	spawn  func(func())                                  // starts a goroutine of the liveReader
	window time.Duration                                 // refusalWindow, except in tests

	mu       sync.Mutex
	failures map[int32]time.Time // the last failure of each broker that is not read again yet
	refusals map[refusal]*refusedPartitions
}

// refusal is the event of a log line: a broker returns an error for partitions.
type refusal struct {
	broker int32
	level  slog.Level
	err    string
}

// refusedPartitions are the partitions of a refusal.
type refusedPartitions struct {
	count   int
	example Position
}

func newBrokerLog(log *slog.Logger, count func(broker int32) (sessions, partitions int), spawn func(func())) *brokerLog {
	return &brokerLog{
		log: log, count: count, spawn: spawn, window: refusalWindow,
		failures: make(map[int32]time.Time), refusals: make(map[refusal]*refusedPartitions),
	}
}

// recordFailure logs that the broker cannot be read, once until it is read again. example is a partition
// that should have been read. waiting is the number of partitions that wait to start there.
func (l *brokerLog) recordFailure(ctx context.Context, broker int32, waiting int, example Position, err error) {
	l.mu.Lock()
	_, repeated := l.failures[broker]
	l.failures[broker] = time.Now()
	l.mu.Unlock()
	level := slog.LevelWarn
	if repeated {
		level = slog.LevelDebug
	}
	sessions, partitions := l.count(broker)
	l.log.Log(ctx, level, "broker cannot be read; retrying", "broker", broker, "sessions", sessions, "partitions", partitions+waiting,
		"topic", example.Topic, "partition", example.ID, "offset", example.Offset, "error", err)
}

// recordAnswer logs that the broker is read again, if it failed before.
func (l *brokerLog) recordAnswer(broker int32) {
	l.mu.Lock()
	last, failed := l.failures[broker]
	recovered := failed && time.Since(last) > failureMemory
	if recovered {
		delete(l.failures, broker)
	}
	l.mu.Unlock()
	if recovered {
		sessions, partitions := l.count(broker)
		l.log.Info("broker is read again", "broker", broker, "sessions", sessions, "partitions", partitions)
	}
}

// recordRefusal logs that the broker refuses the partition, together with other partitions that it refuses
// in the same way within the window.
func (l *brokerLog) recordRefusal(ctx context.Context, event refusal, at Position) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if same := l.refusals[event]; same != nil {
		same.count++
		return
	}
	l.refusals[event] = &refusedPartitions{1, at}
	l.spawn(func() {
		pause(ctx, l.window)
		l.mu.Lock()
		all := *l.refusals[event]
		delete(l.refusals, event)
		l.mu.Unlock()
		l.log.Log(ctx, event.level, "partitions cannot be read; retrying", "broker", event.broker, "partitions", all.count,
			"topic", all.example.Topic, "partition", all.example.ID, "offset", all.example.Offset, "error", event.err)
	})
}
