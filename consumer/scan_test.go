package consumer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// fill writes so many records of so many users in turn to each of the first partitions of the topic t,
// each record with so many bytes more than its number.
func fill(tb testing.TB, address string, partitions, records, users, padding int) {
	tb.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(address), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.DefaultProduceTopic("t"),
		kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ProducerBatchMaxBytes(16<<10), kgo.ProducerLinger(5*time.Millisecond))
	if err != nil {
		tb.Fatal(err)
	}
	defer client.Close()
	more := strings.Repeat(" ", padding)
	for i := range records {
		for p := range partitions {
			r := &kgo.Record{Partition: int32(p), Key: strconv.AppendInt(nil, int64(i%users), 10), Value: fmt.Append(nil, i/users, more)}
			client.Produce(tb.Context(), r, func(_ *kgo.Record, err error) {
				if err != nil {
					tb.Error(err)
				}
			})
		}
	}
	if err := client.Flush(tb.Context()); err != nil {
		tb.Fatal(err)
	}
}

// filledConsumer returns a consumer of a broker with a topic t of so many partitions and what fill has it
// write, once all of it was read live. It is not yet run when prepare is called.
func filledConsumer(t *testing.T, partitions, records, users, padding int, prepare func(*Consumer)) (*kfake.Cluster, *Consumer) {
	t.Helper()
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(int32(partitions), "t"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Close)
	fill(t, broker.ListenAddrs()[0], partitions, records, users, padding)
	c := configured(t, broker.ListenAddrs(), newLedger(), "t")
	prepare(c)
	run(t, c)
	ready(t, c)
	return broker, c
}

// TestStormReadsTheLogOnce lets many users come back, one shortly after the other, who missed the
// same part of the log. Each gets what is theirs, and Kafka is asked for no more than twice all.
func TestStormReadsTheLogOnce(t *testing.T) {
	const users, each = 1000, 100
	broker, c, sink, _ := startOn(t, nil, []string{"t"}, "t")
	ready(t, c)
	fill(t, broker.ListenAddrs()[0], 1, users*each, users, 0)
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
				next, err = replayOne(t.Context(), c, Partition{Topic: "t", ID: 0}, id, fmt.Sprint(user), next, users*each, func(r *Record) bool {
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
	fill(t, broker.ListenAddrs()[0], 1, 1000, 1, 0)
	id := topicID(t, c, "t")
	ctx, cancel := context.WithCancel(t.Context())
	var over bool
	next, err := replayOne(ctx, c, Partition{Topic: "t", ID: 0}, id, "0", 0, 1000, func(r *Record) bool {
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

// TestScanEndsWhenNobodyWaits has the only one who waits for a scan of 32 MiB leave after the first
// record.
func TestScanEndsWhenNobodyWaits(t *testing.T) {
	const records, size = 4000, 8 << 10
	_, c := filledConsumer(t, 1, records, 1, size, func(*Consumer) {})
	ctx, cancel := context.WithCancel(t.Context())
	_, err := replayOne(ctx, c, Partition{Topic: "t", ID: 0}, topicID(t, c, "t"), "0", 0, records, func(*Record) bool {
		cancel()
		return true
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want that of the context", err)
	}
	waitFor(t, "the scan is over", func() bool {
		c.scans.mu.Lock()
		defer c.scans.mu.Unlock()
		return len(c.scans.waiting) == 0
	})
	// The chunk that was under way and perhaps the next one.
	if read := testutil.ToFloat64(c.metrics.replayBytes); read > 2*chunkBytes {
		t.Errorf("%.0f bytes were read from Kafka for nobody", read)
	}
}

// waitFor waits for a condition with much patience.
func waitFor(t *testing.T, what string, met func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !met(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not so after a minute: %s", what)
		}
	}
}

// TestChunksForgetTheOldest keeps no more bytes than it may, and finds what it keeps.
func TestChunksForgetTheOldest(t *testing.T) {
	c := newChunkCache(1000)
	l := logID{Partition: Partition{Topic: "t", ID: 0}}
	for i := range int64(20) {
		c.addChunk(&chunk{logID: l, from: i * 10, next: i*10 + 10, batches: make([]byte, 100)})
		if k := c.findChunk(l, 5); k == nil || k.from != 0 { // used all the time
			t.Fatalf("after %d: the chunk in use is forgotten", i)
		}
	}
	found := 0
	for at := range int64(210) {
		if k := c.findChunk(l, at); k != nil {
			found++
			if at < k.from || at >= k.next {
				t.Errorf("offset %d is looked for in %d to %d", at, k.from, k.next)
			}
		}
	}
	if found != 100 || c.bytes != 1000 {
		t.Errorf("%d offsets in %d bytes, want 100 in 1000", found, c.bytes)
	}
	if k := c.findChunk(logID{Partition: Partition{Topic: "t", ID: 1}}, 5); k != nil {
		t.Error("another partition's offset is found")
	}
}

// replayOne replays one range.
func replayOne(ctx context.Context, c *Consumer, p Partition, topicID [16]byte, user string, from, to int64, fn func(*Record) bool) (int64, error) {
	ranges := []Range{{Partition: p, TopicID: topicID, Next: from, To: to}}
	c.Replay(ctx, user, ranges, func(_ *Range, r *Record) bool { return fn(r) })
	return ranges[0].Next, ranges[0].Err
}
