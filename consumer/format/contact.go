package format

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// contact knows whether the registry answers. While it does not, only one request at a time tries whether it does again,
// and all other requests wait.
type contact struct {
	metrics *metrics
	log     *slog.Logger

	mu       sync.Mutex
	failure  error         // why the last request failed; nil: it was answered
	failures int           // requests that failed since the last answer
	retryAt  time.Time     // when the next request may try
	answered chan struct{} // closed at the first answer after a failure; nil: no failure
	logged   time.Time     // when the log last reported a failure
}

func newContact(m *metrics, log *slog.Logger) *contact { return &contact{metrics: m, log: log} }

func (c *contact) err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failure
}

// waitForTurn waits until a request may be made. It returns false when the context ends.
func (c *contact) waitForTurn(ctx context.Context) bool {
	for ctx.Err() == nil {
		c.mu.Lock()
		wait, answered := time.Duration(0), c.answered
		if c.failure != nil {
			if wait = time.Until(c.retryAt); wait <= 0 {
				c.retryAt = time.Now().Add(c.pauseLocked()) // the caller tries, and others wait
			}
		}
		c.mu.Unlock()
		if wait <= 0 {
			return true
		}
		sleep(ctx, wait, answered)
	}
	return false
}

// sleep waits for a time. If the registry did not answer, it waits for an answer to any request at most.
func (c *contact) sleep(ctx context.Context, pause time.Duration) {
	c.mu.Lock()
	answered := c.answered
	c.mu.Unlock()
	sleep(ctx, pause, answered)
}

// sleep waits for a time, until the context ends, or until the channel is closed.
func sleep(ctx context.Context, pause time.Duration, end <-chan struct{}) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-end:
	case <-ctx.Done():
	}
}

// pauseLocked returns how long all requests wait after failures. It is short, because the failures may be of one schema:
// then a request for another one finds that the registry answers.
func (c *contact) pauseLocked() time.Duration {
	return min(firstPause<<min(c.failures, 10), time.Second)
}

// recordFailure notes that a request failed, and logs it once a minute.
func (c *contact) recordFailure(ctx context.Context, key schemaKey, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failure = err
	c.failures++
	c.retryAt = time.Now().Add(c.pauseLocked())
	if c.answered == nil {
		c.answered = make(chan struct{})
	}
	c.metrics.up.Set(0)
	if now := time.Now(); c.logged.IsZero() || now.Sub(c.logged) >= time.Minute {
		c.logged = now
		c.log.WarnContext(ctx, "schema registry did not answer; partitions with records of this schema wait; retrying", "schema", key.String(), "error", err)
	}
}

// recordAnswer notes that the registry answered, and wakes all requests that wait for it.
func (c *contact) recordAnswer() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.metrics.up.Set(1)
	if c.failure == nil {
		return
	}
	c.failure, c.failures = nil, 0
	close(c.answered)
	c.answered = nil
	c.log.Info("schema registry answers")
}
