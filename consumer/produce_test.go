package consumer

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestProducerChoosesTheJavaClientsPartitions checks the partitions of keys against the hashes that Kafka's own
// test expects (org.apache.kafka.common.utils.UtilsTest.testMurmur2). If two producers put a user's records
// into different partitions, the user sees them out of order.
func TestProducerChoosesTheJavaClientsPartitions(t *testing.T) {
	for key, hash := range map[string]int32{
		"21":                         -973932308,
		"foobar":                     -790332482,
		"a-little-bit-long-string":   -985981536,
		"a-little-bit-longer-string": -1486304829,
		"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
		"abc": 479470107,
		"":    275646681, // not in Kafka's test; the Java client hashes an empty key too
	} {
		for _, count := range []int{1, 2, 3, 7, 50, 1 << 14} {
			want := Partition{Topic: "orders", ID: (hash & 0x7fffffff) % int32(count)} // toPositive
			if got := choosePartition(Message{Topic: "orders", Key: []byte(key)}, count); got != want {
				t.Errorf("key %q with %d partitions goes to %v, want %v", key, count, got, want)
			}
		}
	}
}

// TestRecordsWithoutAKeySpreadOverAllPartitions checks that records without a key use each partition.
func TestRecordsWithoutAKeySpreadOverAllPartitions(t *testing.T) {
	const count = 3
	seen := make(map[int32]bool)
	for range 1000 {
		p := choosePartition(Message{Topic: "orders"}, count)
		if p.ID < 0 || p.ID >= count {
			t.Fatalf("chose %v of %d partitions", p, count)
		}
		seen[p.ID] = true
	}
	if len(seen) != count {
		t.Errorf("the records use partitions %v, want all %d", seen, count)
	}
}

// TestRecordIsWrittenOnceAfterRefusals checks that the producer tries again when the broker refuses a record for
// a temporary reason, and that the topic then holds the record once.
func TestRecordIsWrittenOnceAfterRefusals(t *testing.T) {
	for _, refusal := range []*kerr.Error{kerr.NotLeaderForPartition, kerr.NotEnoughReplicas} {
		t.Run(refusal.Message, func(t *testing.T) {
			t.Parallel()
			broker, c, sink, producer := startOn(t, nil, []string{"t"}, "t")
			ready(t, c)
			broker.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: refusal, Count: 2})
			produce(t, producer, "t", "alice", "x")
			produce(t, producer, "t", "alice", "y")
			sink.wantLines(t, []string{"alice x", "alice y"})
		})
	}
}

// TestProduceWaitsForItsTopicAfterASlowAnswer has a broker that answers late that there is no topic, and then creates the
// topic a moment after it was asked. Produce must wait for the topic.
func TestProduceWaitsForItsTopicAfterASlowAnswer(t *testing.T) {
	t.Parallel()
	broker := newBroker(t, kfake.AllowAutoTopicCreation())
	late, refused := false, false
	broker.ControlKey(int16(kmsg.Metadata), func(req kmsg.Request) (kmsg.Response, error, bool) {
		broker.KeepControl()
		switch m := req.(*kmsg.MetadataRequest); {
		case len(m.Topics) == 0: // kafka-go's own
		case !m.AllowAutoTopicCreation && !late:
			late = true
			broker.SleepControl(func() { time.Sleep(createTimeout + 100*time.Millisecond) })
		case m.AllowAutoTopicCreation && !refused:
			refused, m.AllowAutoTopicCreation = true, false
		}
		return nil, nil, false
	})
	producer := NewProducer(broker.ListenAddrs(), nil, nil)
	t.Cleanup(producer.Close)
	if got, err := producer.Produce(t.Context(), Message{Topic: "new", Value: []byte("x")}); err != nil || !got.Created || !refused {
		t.Errorf("Produce returns %+v, %v, want a created topic; the broker was asked to create it: %t", got, err, refused)
	}
}

// TestProduceReportsACreatedTopic checks that Produce reports a created topic for the first record of a new
// topic and not for the second record.
func TestProduceReportsACreatedTopic(t *testing.T) {
	broker := newBroker(t, kfake.AllowAutoTopicCreation(), kfake.DefaultNumPartitions(3))
	producer := NewProducer(broker.ListenAddrs(), nil, nil)
	t.Cleanup(producer.Close)
	for _, want := range []bool{true, false} {
		got, err := producer.Produce(t.Context(), Message{Topic: "new", Value: []byte("x")})
		if err != nil || got.Created != want || got.Partitions != 3 {
			t.Errorf("Produce returns %+v, %v, want 3 partitions and created: %t", got, err, want)
		}
	}
}
