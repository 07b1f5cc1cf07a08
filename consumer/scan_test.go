package consumer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kgo"
)

// fill writes so many records of so many users in turn to partition 0, in large batches.
func fill(t *testing.T, address, topic string, records, users int) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(address), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.DefaultProduceTopic(topic), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for i := range records {
		client.Produce(t.Context(), &kgo.Record{Key: fmt.Append(nil, i%users), Value: fmt.Append(nil, i/users)}, func(_ *kgo.Record, err error) {
			if err != nil {
				t.Error(err)
			}
		})
	}
	if err := client.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestStormReadsTheLogOnce lets many users come back, one shortly after the other, who missed the
// same part of the log. Each gets what is theirs, and Kafka is asked for no more than twice all.
func TestStormReadsTheLogOnce(t *testing.T) {
	const users, each = 1000, 100
	broker, c, sink, _ := startOn(t, nil, []string{"t"}, "t")
	ready(t, c)
	fill(t, broker.ListenAddrs()[0], "t", users*each, users)
	sink.sorted(t, users*each) // the live reader has it: what it read is the size of the log
	size := testutil.ToFloat64(c.metrics.liveBytes)
	id := topicID(t, c, "t")
	var storm sync.WaitGroup
	for user := range users {
		storm.Go(func() {
			time.Sleep(rand.N(time.Second))
			next, got := int64(0), 0
			for next < users*each {
				piece := 0
				var err error
				next, err = replayOne(t.Context(), c, Partition{"t", 0}, id, fmt.Sprint(user), next, users*each, func(r *Record) bool {
					if piece == 40 { // its buffer is full
						return false
					}
					if string(r.Value) != fmt.Sprint(got) || string(r.User) != fmt.Sprint(user) {
						t.Errorf("user %d got %s of %s, want %d", user, r.Value, r.User, got)
					}
					piece++
					got++
					return true
				})
				if err != nil {
					t.Error(err)
					return
				}
			}
			if got != each {
				t.Errorf("user %d got %d records, want %d", user, got, each)
			}
		})
	}
	storm.Wait()
	read, passes := testutil.ToFloat64(c.metrics.replayBytes), testutil.ToFloat64(c.metrics.passes)
	t.Logf("a log of %.0f bytes: %.0f read from Kafka in %.0f passes", size, read, passes)
	if read > 2*size {
		t.Errorf("%.0f bytes read from Kafka for a log of %.0f", read, size)
	}
}

// TestReplayEndsWithItsContext wants a replay whose caller has left to call fn no more.
func TestReplayEndsWithItsContext(t *testing.T) {
	broker, c, _, _ := startOn(t, nil, []string{"t"}, "t")
	ready(t, c)
	fill(t, broker.ListenAddrs()[0], "t", 1000, 1)
	id := topicID(t, c, "t")
	ctx, cancel := context.WithCancel(t.Context())
	var over bool
	next, err := replayOne(ctx, c, Partition{"t", 0}, id, "0", 0, 1000, func(r *Record) bool {
		if over {
			t.Error("fn is called after Replay has returned")
		}
		if r.Offset == 500 {
			cancel()
		}
		return true
	})
	over = true
	if err != nil && !errors.Is(err, context.Canceled) || next <= 500 {
		t.Errorf("next %d, error %v", next, err)
	}
}

// TestChunksForgetTheOldest keeps no more bytes than it may, and finds what it keeps.
func TestChunksForgetTheOldest(t *testing.T) {
	c := newChunks(1000)
	l := log{Partition: Partition{"t", 0}}
	for i := range int64(20) {
		c.add(&chunk{log: l, from: i * 10, next: i*10 + 10, batches: make([]byte, 100)})
		if k := c.find(l, 5); k == nil || k.from != 0 { // used all the time
			t.Fatalf("after %d: the chunk in use is forgotten", i)
		}
	}
	found := 0
	for at := range int64(210) {
		if k := c.find(l, at); k != nil {
			found++
			if at < k.from || at >= k.next {
				t.Errorf("offset %d is looked for in %d to %d", at, k.from, k.next)
			}
		}
	}
	if found != 100 || c.bytes != 1000 {
		t.Errorf("%d offsets in %d bytes, want 100 in 1000", found, c.bytes)
	}
	if k := c.find(log{Partition: Partition{"t", 1}}, 5); k != nil {
		t.Error("another partition's offset is found")
	}
}

// replayOne replays one range.
func replayOne(ctx context.Context, c *Consumer, p Partition, topicID [16]byte, user string, from, to int64, fn func(*Record) bool) (int64, error) {
	ranges := []Range{{Partition: p, TopicID: topicID, Next: from, To: to}}
	c.Replay(ctx, user, ranges, func(_ *Range, r *Record) bool { return fn(r) })
	return ranges[0].Next, ranges[0].Err
}
