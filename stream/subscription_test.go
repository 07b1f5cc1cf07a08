package stream

import (
	"testing"

	"herald/consumer"
)

// TestLiveWaitsForTheCursor pushes a record to a stream that has just been registered, before its
// cursor, which may be far behind, was compared with the log.
func TestLiveWaitsForTheCursor(t *testing.T) {
	hub := NewHub("event-type", nil)
	p := consumer.Partition{Topic: "shared"}
	hub.Begin(p, [16]byte{1}, 0)
	sub := newSubscription("alice", []consumer.Source{{Topic: "shared"}}, 1<<10, func() {})
	hub.add(sub)
	live := func(offset int64) {
		hub.Deliver(p, []consumer.Record{{Offset: offset, User: []byte("alice"), Value: []byte("v")}}, offset+1)
	}
	live(500)
	if queue, behind := sub.take(); len(queue) != 0 || !behind {
		t.Errorf("%d records are queued, behind: %t; want none before the stream has caught up", len(queue), behind)
	}
	sub.rejoin()
	live(501)
	if queue, behind := sub.take(); len(queue) != 1 || behind {
		t.Errorf("%d records are queued, behind: %t; want one after the stream has caught up", len(queue), behind)
	}
}
