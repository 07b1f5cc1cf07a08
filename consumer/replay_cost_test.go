package consumer

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"herald/consumer/userrate"
)

// TestCostlyUserWaits replays a log for a user whom the rate then allows nothing for days. The user's next replay
// waits until its context ends. Another user's replay does not wait.
func TestCostlyUserWaits(t *testing.T) {
	const records, users = 10_000, 10
	_, c := filledConsumer(t, 1, records, users, 0, func(c *Consumer) { c.scans.costs = userrate.New(1, 1) })
	id := topicID(t, c, "t")
	replay := func(ctx context.Context, user string) (got int, err error) {
		_, err = replayOne(ctx, c, Partition{Topic: "t", ID: 0}, id, user, 0, records, func(*Record) bool { got++; return true })
		return got, err
	}
	if got, err := replay(t.Context(), "7"); got != records/users || err != nil {
		t.Fatalf("the first replay: %d records, %v", got, err)
	}
	waitFor(t, "the pass has charged the user", func() bool { return c.scans.costs.Debt("7", time.Now()) > 0 })
	if owed := c.scans.costs.Debt("7", time.Now()).Seconds(); owed < records*recordCost || owed > records*(recordCost+20) {
		t.Errorf("the user owes %.0f bytes, want %d and a few for each of %d records", owed, recordCost, records)
	}
	delayed := func() float64 { return testutil.ToFloat64(c.metrics.delayed) }
	short, cancel := context.WithCancel(t.Context())
	go func() {
		for delayed() == 0 && t.Context().Err() == nil {
			time.Sleep(time.Millisecond)
		}
		cancel()
	}()
	if got, err := replay(short, "7"); got != 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("the second replay: %d records, %v, want none until the context ends", got, err)
	}
	waitFor(t, "no pass is under way", func() bool { return c.scans.waiters.zoneCount() == 0 })
	if n := testutil.ToFloat64(c.metrics.passes); n != 1 {
		t.Errorf("%v passes, want none for the client that left while it waited", n)
	}
	if n := delayed(); n != 1 {
		t.Errorf("%v replays are counted as delayed, want 1", n)
	}
	if got, err := replay(t.Context(), "8"); got != records/users || err != nil {
		t.Errorf("another user: %d records, %v", got, err)
	}
}

// TestReplaysShareTheCost replays a log for many users at once. Together they are charged for no more than the
// passes have read.
func TestReplaysShareTheCost(t *testing.T) {
	const records, users = 10_000, 10
	_, c := filledConsumer(t, 1, records, users, 0, func(c *Consumer) { c.scans.costs = userrate.New(1, 1) })
	id := topicID(t, c, "t")
	var all sync.WaitGroup
	for user := range users {
		all.Go(func() {
			if _, err := replayOne(t.Context(), c, Partition{Topic: "t", ID: 0}, id, string(rune('0'+user)), 0, records, func(*Record) bool { return true }); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	waitFor(t, "the zone's goroutine has ended", func() bool { return c.scans.waiters.zoneCount() == 0 })
	owed := 0.
	for user := range users {
		owed += c.scans.costs.Debt(string(rune('0'+user)), time.Now()).Seconds()
	}
	read := testutil.ToFloat64(c.metrics.replayed)
	if owed < 0.95*recordCost*read || owed > (recordCost+20)*read {
		t.Errorf("the users owe %.0f bytes together for %.0f records read", owed, read)
	}
}
