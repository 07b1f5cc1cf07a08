package consumer

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestJoinedTopicIsFetchedAtOnce checks that a topic joined while the broker holds a long fetch is fetched
// at once. The broker holds fetches longer when no topic was joined for a while. The new fetch begins a
// session that replaces the previous session.
func TestJoinedTopicIsFetchedAtOnce(t *testing.T) {
	t.Parallel()
	broker, c, sink, producer := startOn(t, []kfake.Opt{kfake.SeedTopics(1, "own.alice", "own.bob")}, nil, "own.{user}")
	if _, err := c.Join(t.Context(), "alice"); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var last, joined *kmsg.FetchRequest // the last fetch with a long wait; the first fetch that names bob's topic
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
			t.Fatal("no fetch asked the broker for the long wait within 20 s")
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
		t.Errorf("the topic is first fetched in session %d at epoch %d, after session %d at epoch %d; want a full fetch that ends the previous session",
			joined.SessionID, joined.SessionEpoch, last.SessionID, last.SessionEpoch)
	}
	if joined.MaxWaitMillis != int32(fetchMaxWait/time.Millisecond) {
		t.Errorf("the fetch of a topic just joined asks the broker to wait %d ms, want the short wait", joined.MaxWaitMillis)
	}
}

// TestPartitionsAreSplitBetweenSessions checks that five partitions are read in three sessions if a session
// has at most two.
func TestPartitionsAreSplitBetweenSessions(t *testing.T) {
	t.Parallel()
	broker := newBroker(t, kfake.SeedTopics(5, "t"))
	sink := newLedger()
	c := configured(t, broker.ListenAddrs(), sink, "t")
	c.reader.sessionPartitions = 2
	run(t, c)
	if _, err := c.Join(t.Context(), "a"); err != nil { // the consumer reads new records from here on
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
		t.Errorf("the sessions have %v partitions, want 1, 2 and 2", sizes)
	}
}
