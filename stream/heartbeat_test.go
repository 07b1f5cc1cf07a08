package stream

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"herald/consumer"
	"herald/consumer/batch"
)

// slowKafka is a Kafka with one topic of the user, whose replays take longer than events are held back. It notes
// the delivered offsets.
type slowKafka struct {
	Kafka
	delivered int64
}

func (*slowKafka) IsCurrent(string, [16]byte, func(int32) (int64, bool)) bool { return true }

func (*slowKafka) Join(context.Context, string) ([]consumer.UserTopic, error) {
	return []consumer.UserTopic{{Topic: "own", Own: true}}, nil
}

func (k *slowKafka) Delivered(_ consumer.Partition, _ [16]byte, next int64) { k.delivered = next }

func (*slowKafka) Replay(_ context.Context, _ string, ranges []consumer.Range, _ func(*consumer.Range, *consumer.Record) bool) {
	time.Sleep(10 * holdFor)
	for i := range ranges {
		ranges[i].Next = ranges[i].To
	}
}

// TestHeldRecordsAreReported has a record of the user's own topic wait for a replay that takes long and brings
// nothing. Kafka learns of the delivery as soon as the stream has nothing more to do.
func TestHeldRecordsAreReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub, kafka, out := NewHub("event-type", nil), new(slowKafka), new(partOutput)
		first, second := consumer.Partition{Topic: "own"}, consumer.Partition{Topic: "own", ID: 1}
		hub.Begin(first, [16]byte{1}, 0)
		hub.Begin(second, [16]byte{1}, 0)
		s := newStream(t, streamOptions{hub: hub, kafka: kafka, out: out, inline: true})
		s.start(streamRequest{})
		hub.Deliver(first, []consumer.Record{{Record: batch.Record{Offset: 0, Value: []byte("v")}, User: []byte("alice")}}, 1)
		hub.Deliver(second, nil, 5) // nothing for this user
		s.sub.requestCatchUp()
		s.serveSlow()
		if kafka.delivered != 1 {
			t.Errorf("Kafka knows of records delivered up to %d, want 1; the stream has written %q", kafka.delivered, out.text)
		}
	})
}
