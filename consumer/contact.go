package consumer

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"
)

// contact knows whether Kafka answers. One goroutine records answers; all others may ask.
type contact struct {
	brokers []string
	metrics *metrics
	log     *slog.Logger

	failure    atomic.Pointer[error] // why the last metadata request failed; nil: a broker answered
	answered   atomic.Bool           // a broker has answered at least once
	lastLogged time.Time             // when the log last reported that Kafka does not answer
}

func newContact(brokers []string, m *metrics, log *slog.Logger) *contact {
	c := &contact{brokers: brokers, metrics: m, log: log}
	var first error = unansweredError{brokers, time.Now()}
	c.failure.Store(&first)
	return c
}

// unansweredError reports that the first request has neither been answered nor failed, which takes up to
// 10 s at a port that takes the connection and does not speak Kafka.
type unansweredError struct {
	brokers []string
	since   time.Time
}

func (e unansweredError) Error() string {
	return fmt.Sprintf("asked %s %v ago, no answer yet", strings.Join(e.brokers, ", "), time.Since(e.since).Round(time.Second))
}

// record notes the outcome of a metadata request. It logs when Kafka answers again, and once a minute that
// it does not answer.
func (c *contact) record(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	c.metrics.recordContact(err)
	if err == nil {
		c.answered.Store(true)
		if c.failure.Swap(nil) != nil {
			c.log.Info("kafka answers", "brokers", c.brokers)
			c.lastLogged = time.Time{}
		}
		return
	}
	c.failure.Store(&err)
	if time.Since(c.lastLogged) >= time.Minute {
		c.lastLogged = time.Now()
		c.log.Warn("kafka does not answer; streams stay open, retrying", "brokers", c.brokers, "error", err)
	}
}

// check returns why Kafka did not answer the last metadata request; nil if it did.
func (c *contact) check() error {
	if reason := c.failure.Load(); reason != nil {
		return fmt.Errorf("kafka does not answer: %w", *reason)
	}
	return nil
}

// isOnline reports whether Kafka answered the last metadata request.
func (c *contact) isOnline() bool { return c.failure.Load() == nil }
