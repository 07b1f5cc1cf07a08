package consumer

import (
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestReplayFetchesAreBounded checks short and long replays of 40 partitions while the broker holds their fetches:
// 12 fetches of short replays and 4 fetches of long replays are under way, and each wants at most 1 MiB.
func TestReplayFetchesAreBounded(t *testing.T) {
	const partitions, records, last = 40, 200, 50
	broker, c := filledConsumer(t, partitions, records, 1, 0, func(c *Consumer) {
		c.scans.longRange = 100
	})
	var mu sync.Mutex
	var under, most [2]int // by rangeLength
	release := make(chan struct{})
	broker.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		broker.KeepControl()
		fetch := req.(*kmsg.FetchRequest)
		if fetch.SessionEpoch != -1 {
			return nil, nil, false
		}
		asked := fetch.Topics[0].Partitions[0]
		if asked.PartitionMaxBytes > chunkBytes {
			t.Errorf("a fetch wants %d bytes, want at most %d", asked.PartitionMaxBytes, chunkBytes)
		}
		l := short
		if asked.FetchOffset < records-last {
			l = long
		}
		mu.Lock()
		under[l]++
		most[l] = max(most[l], under[l])
		mu.Unlock()
		broker.SleepControl(func() { <-release })
		mu.Lock()
		under[l]--
		mu.Unlock()
		return nil, nil, false
	})
	var all sync.WaitGroup
	all.Go(func() { replayAll(t.Context(), t, c, "0", partitions, records, last) })
	all.Go(func() { replayAll(t.Context(), t, c, "0", partitions, records, records) })
	count := func(l rangeLength) int {
		mu.Lock()
		defer mu.Unlock()
		return under[l]
	}
	waitFor(t, "12 short and 4 long fetches are under way", func() bool { return count(short) >= 12 && count(long) >= 4 })
	time.Sleep(200 * time.Millisecond) // time for fetches above the bound
	close(release)
	all.Wait()
	if most != [...]int{short: 12, long: 4} {
		t.Errorf("at most %d short and %d long fetches were under way, want 12 and 4", most[short], most[long])
	}
}

// TestReplaysOfOtherBrokersContinueWhileOneHangs checks more replays than there are slots, of partitions of a
// broker that takes requests and does not answer. A replay of another broker's partition waits until the first
// request times out, and no longer. Once the broker answers, all users get the missed records.
func TestReplaysOfOtherBrokersContinueWhileOneHangs(t *testing.T) {
	t.Parallel()
	const partitions = 30
	var hearing ears
	broker := newBroker(t, kfake.NumBrokers(2), kfake.SeedTopics(partitions, "zero"), kfake.SeedTopics(1, "one"), hearing.listen())
	write := partitioned(t, broker)
	for p := range int32(partitions) {
		if err := broker.MoveTopicPartition("zero", p, 0); err != nil {
			t.Fatal(err)
		}
		write("zero", p, "a", "missed")
	}
	if err := broker.MoveTopicPartition("one", 0, 1); err != nil {
		t.Fatal(err)
	}
	write("one", 0, "a", "missed")
	c := configured(t, broker.ListenAddrs(), newLedger(), "zero", "one")
	c.scans.slots[short] = make(chan struct{}, 1)
	run(t, c)
	ready(t, c)

	hearing[0].Store(true)
	var back sync.WaitGroup
	zero := topicID(t, c, "zero")
	for p := range int32(partitions) {
		back.Go(func() {
			for next := int64(0); next == 0; pause(t.Context(), 10*time.Millisecond) {
				next, _ = replayOne(t.Context(), c, Partition{Topic: "zero", ID: p}, zero, "a", 0, 1, func(*Record) bool { return true })
				if t.Context().Err() != nil {
					t.Errorf("partition %d was not replayed", p)
					return
				}
			}
		})
	}
	waitFor(t, "the replays of the hung broker wait", func() bool { return testutil.ToFloat64(c.metrics.replays) >= partitions })
	served := make(chan struct{})
	go func() {
		defer close(served)
		if _, err := replayOne(t.Context(), c, Partition{Topic: "one", ID: 0}, topicID(t, c, "one"), "a", 0, 1, func(*Record) bool { return true }); err != nil {
			t.Error(err)
		}
	}()
	finishes(t, "a replay of another broker's partition", served) // a replay that waits for the hung broker's 30 requests, each of at least 10 s, would take longer
	hearing[0].Store(false)
	back.Wait()
}
