package consumer

import (
	"context"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// TestHungBroker wants replays to do without a broker that lets a request time out, unless it has answered
// another one meanwhile, until it answers or for hungFor.
func TestHungBroker(t *testing.T) {
	const id, other = 1, 2
	for name, test := range map[string]struct {
		happens func(b *brokers, begun time.Time)
		hung    bool
	}{
		"a request times out": {func(b *brokers, begun time.Time) { b.outcome(id, begun, context.DeadlineExceeded) }, true},
		"on the wire":         {func(b *brokers, begun time.Time) { b.outcome(id, begun, os.ErrDeadlineExceeded) }, true},
		"given up":            {func(b *brokers, begun time.Time) { b.outcome(id, begun, context.Canceled) }, false},
		"another broker's":    {func(b *brokers, begun time.Time) { b.outcome(other, begun, context.DeadlineExceeded) }, false},
		"others answered before it": {func(b *brokers, begun time.Time) {
			b.outcome(id, begun, nil)
			b.outcome(id, time.Now(), context.DeadlineExceeded)
		}, true},
		"others answered meanwhile": {func(b *brokers, begun time.Time) {
			b.outcome(id, time.Now(), nil)
			time.Sleep(time.Second)
			b.outcome(id, begun, context.DeadlineExceeded)
		}, false},
		"another one answers then": {func(b *brokers, begun time.Time) {
			b.outcome(id, begun, context.DeadlineExceeded)
			b.outcome(id, begun, nil)
		}, false},
		"a while ago": {func(b *brokers, begun time.Time) {
			b.outcome(id, begun, context.DeadlineExceeded)
			time.Sleep(hungFor)
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, begun := newBrokers(), time.Now()
				time.Sleep(requestTimeout)
				test.happens(b, begun)
				if err := b.answers(id); (err != nil) != test.hung {
					t.Errorf("got %v, want hung %v", err, test.hung)
				}
			})
		})
	}
}
