package consumer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"herald/consumer/logtail"
)

// fill writes records to each of the first partitions of the topic t. The users take turns. The value of a record
// is its number among the user's records, followed by as many spaces as padding says.
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

// filledConsumer runs a consumer of the topic t, on a broker to which fill has written records before the
// consumer starts. The consumer has no tail, so replays read from Kafka. filledConsumer calls prepare before the
// consumer runs, and returns when the consumer is ready.
func filledConsumer(t *testing.T, partitions, records, users, padding int, prepare func(*Consumer)) (*kfake.Cluster, *Consumer) {
	t.Helper()
	broker := newBroker(t, kfake.SeedTopics(int32(partitions), "t"))
	fill(t, broker.ListenAddrs()[0], partitions, records, users, padding)
	c := configured(t, broker.ListenAddrs(), newLedger(), "t")
	c.reader.tail = logtail.New(0)
	prepare(c)
	run(t, c)
	ready(t, c)
	return broker, c
}

// TestStormReadsTheLogAtMostTwice checks a storm of users who all missed the same part of the log. Each user gets
// the user's own records, and the replays read at most twice the size of the log from Kafka.
func TestStormReadsTheLogAtMostTwice(t *testing.T) {
	const users, each = 1000, 100
	broker, c, sink, _ := startOn(t, nil, []string{"t"}, "t")
	ready(t, c)
	fill(t, broker.ListenAddrs()[0], 1, users*each, users, 0)
	sink.sorted(t, users*each) // the live reader has read the whole log, so its bytes are the size of the log
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
					if piece == 40 { // the user's buffer is full
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
		t.Errorf("the replays read %.0f bytes from Kafka, want at most twice the log of %.0f bytes", read, size)
	}
}

// TestReplayEndsWithItsContext checks that a replay ends when its context ends, and calls fn no more after that.
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
		t.Errorf("the replay ended at %d with error %v, want an end after 500 and no error but the context's", next, err)
	}
}

// TestReadingStopsWhenTheOnlyClientLeaves checks a replay of 32 MiB whose only client leaves after the first
// record: the pass ends, and has read a small part of the log.
func TestReadingStopsWhenTheOnlyClientLeaves(t *testing.T) {
	const records, size = 4000, 8 << 10
	broker, c := filledConsumer(t, 1, records, 1, size, func(*Consumer) {})
	var left atomic.Bool
	holdReplays(broker, func(offset int64) bool { return offset > 0 && !left.Load() })
	ctx, cancel := context.WithCancel(t.Context())
	_, err := replayOne(ctx, c, Partition{Topic: "t", ID: 0}, topicID(t, c, "t"), "0", 0, records, func(*Record) bool {
		cancel()
		return true
	})
	left.Store(true)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("the replay ended with error %v, want %v", err, context.Canceled)
	}
	waitFor(t, "the pass ends", func() bool {
		return c.scans.waiters.zoneCount() == 0
	})
	// The pass may finish the chunk that was under way. A chunk may be a little larger than chunkBytes.
	if read := testutil.ToFloat64(c.metrics.replayBytes); read > 3*chunkBytes {
		t.Errorf("%.0f of %d bytes were read from Kafka, want at most %d", read, records*size, 3*chunkBytes)
	}
}

// waitFor waits up to a minute until met returns true.
func waitFor(t *testing.T, what string, met func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !met(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still waiting after a minute until %s", what)
		}
	}
}

// TestChunkCacheForgetsUnusedChunks checks that the cache keeps at most its limit of bytes, keeps the chunk that is
// used all the time, and finds every offset of the chunks that it keeps.
func TestChunkCacheForgetsUnusedChunks(t *testing.T) {
	c := newChunkCache(1000)
	l := logID{Partition: Partition{Topic: "t", ID: 0}}
	for i := range int64(20) {
		c.addChunk(&chunk{logID: l, from: i * 10, next: i*10 + 10, batches: make([]byte, 100)})
		if k := c.findChunk(l, 5); k == nil || k.from != 0 { // this chunk is used all the time
			t.Fatalf("after chunk %d: the cache has forgotten the chunk in use", i)
		}
	}
	found := 0
	for at := range int64(210) {
		if k := c.findChunk(l, at); k != nil {
			found++
			if at < k.from || at >= k.next {
				t.Errorf("for offset %d the cache returns the chunk from %d to %d", at, k.from, k.next)
			}
		}
	}
	if found != 100 || c.bytes != 1000 {
		t.Errorf("the cache holds %d offsets in %d bytes, want 100 in 1000", found, c.bytes)
	}
	if k := c.findChunk(logID{Partition: Partition{Topic: "t", ID: 1}}, 5); k != nil {
		t.Error("the cache returns a chunk for another partition")
	}
}

// replayOne replays one range.
func replayOne(ctx context.Context, c *Consumer, p Partition, topicID [16]byte, user string, from, to int64, fn func(*Record) bool) (int64, error) {
	ranges := []Range{{Partition: p, TopicID: topicID, Next: from, To: to}}
	c.Replay(ctx, user, ranges, func(_ *Range, r *Record) bool { return fn(r) })
	return ranges[0].Next, ranges[0].Err
}
