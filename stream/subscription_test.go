package stream

import (
	"math/rand/v2"
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
	sub := newSubscription("alice", 1<<10, nil, func(*clientStream) {})
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

// TestStreamsOfAUserEndInAnyOrder removes the streams of one user one after the other. The remaining ones must get
// each record, and the others none.
func TestStreamsOfAUserEndInAnyOrder(t *testing.T) {
	const count = 4
	p := consumer.Partition{Topic: "shared"}
	for range 50 {
		hub := NewHub("event-type", nil)
		hub.Begin(p, [16]byte{1}, 0)
		var list []*subscription
		for range count {
			list = append(list, caughtUp(hub, "alice", 1<<10))
		}
		removed := make(map[*subscription]bool)
		for offset, i := range rand.Perm(count) {
			hub.removeSubscription(list[i])
			removed[list[i]] = true
			hub.Deliver(p, []consumer.Record{{Record: batch.Record{Offset: int64(offset), Value: []byte("v")}, User: []byte("alice")}}, int64(offset)+1)
			for j, s := range list {
				if queue, _, _ := s.takeQueue(); (queue == nil) != removed[s] {
					t.Fatalf("after %d removals stream %d has a record: %t, was removed: %t", offset+1, j, queue != nil, removed[s])
				}
			}
		}
		if len(hub.users) > 0 || len(hub.topics["shared"].readers.list) > 0 {
			t.Fatal("the hub has a stream after all were removed")
		}
	}
}
