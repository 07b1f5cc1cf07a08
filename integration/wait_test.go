package integration

import (
	"context"
	"testing"
	"time"
)

// patience is how long a test waits for something that must happen. The limit ends a hang; it makes no
// promise about speed.
const patience = 60 * time.Second

// waitFor waits until the condition holds, and fails the test if that takes longer than twice patience. what
// describes the condition.
func waitFor(t *testing.T, what string, condition func(ctx context.Context) bool) {
	t.Helper()
	waitWithin(t, 2*patience, func() string { return what }, condition)
}

// waitWithin waits until the condition holds, and fails the test if that takes longer than limit. describe
// returns what did not happen. The condition may fail the test itself; its context ends with the limit, not
// with the test, so that clean-ups can wait too.
func waitWithin(t *testing.T, limit time.Duration, describe func() string, condition func(ctx context.Context) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), limit)
	defer cancel()
	for !condition(ctx) {
		select {
		case <-ctx.Done():
			t.Fatalf("not in %s: %s", limit, describe())
		case <-time.After(20 * time.Millisecond):
		}
	}
}
