package consumer

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestPartitionsAsTheJavaClientChoosesThem uses the hashes that Kafka's own test expects
// (org.apache.kafka.common.utils.UtilsTest.testMurmur2). A user whose records two producers put
// into different partitions would see them out of order.
func TestPartitionsAsTheJavaClientChoosesThem(t *testing.T) {
	for key, hash := range map[string]int32{
		"21":                         -973932308,
		"foobar":                     -790332482,
		"a-little-bit-long-string":   -985981536,
		"a-little-bit-longer-string": -1486304829,
		"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
		"abc": 479470107,
		"":    275646681, // not in that test; an empty key is a key, which the Java client hashes
	} {
		for _, count := range []int{1, 2, 3, 7, 50, 1 << 14} {
			want := Partition{Topic: "orders", ID: (hash & 0x7fffffff) % int32(count)} // toPositive
			if got := choosePartition(Message{Topic: "orders", Key: []byte(key)}, count); got != want {
				t.Errorf("%q over %d partitions: %v, want %v", key, count, got, want)
			}
		}
	}
}

func TestRecordsWithoutAKeySpread(t *testing.T) {
	const count = 3
	seen := make(map[int32]bool)
	for range 1000 {
		p := choosePartition(Message{Topic: "orders"}, count)
		if p.ID < 0 || p.ID >= count {
			t.Fatalf("partition %v of %d", p, count)
		}
		seen[p.ID] = true
	}
	if len(seen) != count {
		t.Errorf("only partitions %v of %d are used", seen, count)
	}
}

// TestProduceAgain has the broker refuse a record for reasons that pass: it is written once.
func TestProduceAgain(t *testing.T) {
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

// TestCreatedIsTold writes twice to a topic that did not exist.
func TestCreatedIsTold(t *testing.T) {
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.AllowAutoTopicCreation(), kfake.DefaultNumPartitions(3))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Close)
	producer := NewProducer(broker.ListenAddrs(), nil, nil)
	t.Cleanup(producer.Close)
	for _, want := range []bool{true, false} {
		got, err := producer.Produce(t.Context(), Message{Topic: "new", Value: []byte("x")})
		if err != nil || got.Created != want || got.Partitions != 3 {
			t.Errorf("%+v, %v, want created: %t", got, err, want)
		}
	}
}
