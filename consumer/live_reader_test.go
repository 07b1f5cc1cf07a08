package consumer

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestQuietShard waits until the broker is asked to wait longer, because no topic was joined for a
// while, and joins one: it is fetched at once, by a session that takes the place of the one before.
func TestQuietShard(t *testing.T) {
	t.Parallel()
	broker, c, sink, producer := startOn(t, []kfake.Opt{kfake.SeedTopics(1, "own.alice", "own.bob")}, nil, "own.{user}")
	if _, err := c.Join(t.Context(), "alice"); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var last, joined *kmsg.FetchRequest // with a long wait; the first that names bob's topic
	bob := broker.TopicInfo("own.bob").TopicID
	broker.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		broker.KeepControl()
		mu.Lock()
		defer mu.Unlock()
		fetch := req.(*kmsg.FetchRequest)
		for _, topic := range fetch.Topics {
			if topic.TopicID == bob && joined == nil {
				joined = fetch
			}
		}
		if fetch.MaxWaitMillis == int32(quietMaxWait/time.Millisecond) && joined == nil {
			last = fetch
		}
		return nil, nil, false
	})
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		mu.Lock()
		quiet := last != nil
		mu.Unlock()
		if quiet {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the broker is not asked to wait longer")
		}
	}
	if _, err := c.Join(t.Context(), "bob"); err != nil {
		t.Fatal(err)
	}
	produce(t, producer, "own.bob", "", "x")
	produce(t, producer, "own.alice", "", "y")
	sink.wantLines(t, []string{"alice y", "bob x"})
	mu.Lock()
	defer mu.Unlock()
	if joined.SessionEpoch != 0 || joined.SessionID != last.SessionID || last.SessionEpoch == 0 {
		t.Errorf("the topic is first fetched by session %d at epoch %d, after %d at %d; want that one ended by a full fetch",
			joined.SessionID, joined.SessionEpoch, last.SessionID, last.SessionEpoch)
	}
	if joined.MaxWaitMillis != int32(fetchMaxWait/time.Millisecond) {
		t.Errorf("the broker is asked to wait %d ms where a topic was just joined", joined.MaxWaitMillis)
	}
}

// TestSessionPartitions reads five partitions two to a session.
func TestSessionPartitions(t *testing.T) {
	t.Parallel()
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(5, "t"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Close)
	sink := newLedger()
	c := configured(t, broker.ListenAddrs(), sink, "t")
	c.reader.sessionPartitions = 2
	run(t, c)
	if _, err := c.Join(t.Context(), "a"); err != nil { // it is read from here on
		t.Fatal(err)
	}
	producer := NewProducer(broker.ListenAddrs(), nil, nil)
	t.Cleanup(producer.Close)
	var want []string
	for _, key := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
		produce(t, producer, "t", key, "x")
		want = append(want, key+" x")
	}
	sink.wantLines(t, want)
	c.reader.mu.Lock()
	defer c.reader.mu.Unlock()
	var sizes []int
	for _, shards := range c.reader.shards {
		for _, s := range shards {
			sizes = append(sizes, len(s.partitions))
		}
	}
	slices.Sort(sizes)
	if !slices.Equal(sizes, []int{1, 2, 2}) {
		t.Errorf("sessions of %v partitions, want 1, 2 and 2", sizes)
	}
}
