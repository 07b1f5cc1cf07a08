package stream

import (
	"testing"

	"herald/consumer"
	"herald/consumer/batch"
)

// TestLiveWaitsForTheCursor delivers a record to a stream that is registered but has not compared its cursor
// with the log. The cursor may lag far, so the stream must not take the record yet.
func TestLiveWaitsForTheCursor(t *testing.T) {
	hub := NewHub("event-type", nil)
	p := consumer.Partition{Topic: "shared"}
	hub.Begin(p, [16]byte{1}, 0)
	sub := newSubscription("alice", 1<<10, func() {}, func() {})
	sub.topics = []consumer.UserTopic{{Topic: "shared"}}
	hub.addSubscription(sub)
	live := func(offset int64) {
		hub.Deliver(p, []consumer.Record{{Record: batch.Record{Offset: offset, Value: []byte("v")}, User: []byte("alice")}}, offset+1)
	}
	live(500)
	if queue, behind, _ := sub.takeQueue(); queue != nil || !behind {
		t.Errorf("records are queued: %t, behind: %t; want none before the stream has caught up", queue != nil, behind)
	}
	sub.acceptLiveRecords()
	live(501)
	if queue, behind, _ := sub.takeQueue(); queue == nil || len(queue.items) != 1 || behind {
		t.Errorf("%+v is queued, behind: %t; want one record after the stream has caught up", queue, behind)
	}
}
