package consumer

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestEachMissingTopicGetsItsTurn checks that metadata requests name all topics in turns, with a bounded
// number of topics in each request, while many topics do not exist.
func TestEachMissingTopicGetsItsTurn(t *testing.T) {
	for _, n := range []int{1, turnTopics, 5*turnTopics + 1} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			now := time.Now()
			d := metadataSchedule{topics: make(map[string]*topicState), hurry: make(map[string]struct{}), lastAll: now}
			for i := range n {
				name := fmt.Sprint(i)
				d.topics[name] = newTopicState(name, nil)
				d.addSoon(d.topics[name], now)
			}
			if names, all := d.takeDue(now); len(names) != n || all {
				t.Fatalf("the first request names %d topics, all: %v; want %d topics, not all", len(names), all, n)
			}
			for name := range d.topics {
				d.addLater(d.topics[name])
				d.addLater(d.topics[name])
			}
			rounds := (n + turnTopics - 1) / turnTopics
			asked := make(map[string]int)
			for range 2 * rounds {
				if wait := d.untilDue(now); wait != turnInterval {
					t.Fatalf("the next request is due in %v, want %v", wait, turnInterval)
				}
				now = now.Add(turnInterval)
				names, _ := d.takeDue(now)
				if len(names) > turnTopics {
					t.Fatalf("a request names %d topics, want at most %d", len(names), turnTopics)
				}
				for _, name := range names {
					asked[name]++
					d.addLater(d.topics[name])
				}
				if names, _ := d.takeDue(now.Add(turnInterval - 1)); len(names) > 0 {
					t.Fatalf("a request between two turns names %d topics, want none", len(names))
				}
			}
			for name := range d.topics {
				if asked[name] < 2 {
					t.Errorf("topic %s was named in %d of %d requests, want at least 2", name, asked[name], 2*rounds)
				}
			}
		})
	}
}

// TestRequestAboutAllTopicsOmitsMissingTopics checks that the request about all topics names the topics that
// are read and the topics in a hurry, and leaves out the topics that wait for their turn.
func TestRequestAboutAllTopicsOmitsMissingTopics(t *testing.T) {
	now := time.Now()
	d := metadataSchedule{topics: make(map[string]*topicState), hurry: make(map[string]struct{}), lastTurn: now}
	for _, name := range []string{"read", "waits", "waits, doubted", "doubted"} {
		d.topics[name] = newTopicState(name, nil)
	}
	d.addLater(d.topics["waits"])
	d.addLater(d.topics["waits, doubted"])
	d.addSoon(d.topics["waits, doubted"], now)
	d.addSoon(d.topics["doubted"], now)
	names, all := d.takeDue(now)
	if got := strings.Join(sortedCopy(names), "; "); got != "doubted; read; waits, doubted" || !all {
		t.Errorf("the request names %s; all: %v", got, all)
	}
	d.addSoon(d.topics["doubted"], now.Add(turnInterval/2)) // it waits for its turn, because the last request named it
	if names, _ := d.takeDue(now.Add(turnInterval / 2)); len(names) > 0 {
		t.Errorf("a request half a turn later names %q again, want none", names)
	}
	d.returnUnanswered([]string{"read"}, true)
	names, all = d.takeDue(now.Add(turnInterval))
	if got := strings.Join(sortedCopy(names), "; "); got != "doubted; read; waits; waits, doubted" || !all {
		t.Errorf("after a request without an answer, the next request names %s; all: %v", got, all)
	}
}

// TestFirstNotificationArrivesWhileThousandsOfTopicsAreMissing checks 10,000 users who have no topic yet. Each
// metadata request names a bounded number of topics, and the first record of a user arrives.
func TestFirstNotificationArrivesWhileThousandsOfTopicsAreMissing(t *testing.T) {
	t.Parallel()
	const users = 10_000
	broker, c, sink, producer := startOn(t, nil, nil, "n.{user}")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var joined sync.WaitGroup
	for i := range users {
		joined.Go(func() {
			if _, err := c.Join(ctx, fmt.Sprint(i)); err != nil {
				t.Error(err)
			}
		})
	}
	joined.Wait()
	var mu sync.Mutex
	asked := make(map[string]int)
	requests, most := 0, 0
	begun := time.Now()
	broker.ControlKey(int16(kmsg.Metadata), func(req kmsg.Request) (kmsg.Response, error, bool) {
		broker.KeepControl()
		mu.Lock()
		defer mu.Unlock()
		if topics := req.(*kmsg.MetadataRequest).Topics; len(topics) > 1 { // the request of a producer names one topic
			requests++
			most = max(most, len(topics))
			for _, topic := range topics {
				asked[*topic.Topic]++
			}
		}
		return nil, nil, false
	})
	for done := false; !done; time.Sleep(10 * time.Millisecond) {
		if ctx.Err() != nil {
			t.Fatalf("metadata requests named %d of %d topics in time", len(asked), users)
		}
		mu.Lock()
		done = len(asked) == users
		mu.Unlock()
	}
	mu.Lock()
	if bound := int(time.Since(begun)/turnInterval) + 2; requests > bound || most > turnTopics {
		t.Errorf("%d requests name up to %d topics each, want at most %d requests and %d topics", requests, most, bound, turnTopics)
	}
	mu.Unlock()
	var want []string
	for _, user := range []string{"0", "4999", "9999"} {
		want = append(want, user+" first ever")
		produce(t, producer, "n."+user, "", "first ever")
	}
	sink.wantLines(t, want)
}

// TestRefusedPartitionIsFetchedAgainAtIntervals checks a broker that refuses a partition although the broker's
// metadata lists it. The consumer fetches the partition again at intervals, and reads it once the broker
// answers.
func TestRefusedPartitionIsFetchedAgainAtIntervals(t *testing.T) {
	t.Parallel()
	broker, c, sink, producer := startOn(t, []kfake.Opt{kfake.SeedTopics(1, "t")}, nil, "t")
	ready(t, c)
	id := topicID(t, c, "t")
	var refused atomic.Int64
	var allowed atomic.Bool
	begun := time.Now()
	broker.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		broker.KeepControl()
		fetch := req.(*kmsg.FetchRequest)
		named := slices.ContainsFunc(fetch.Topics, func(t kmsg.FetchRequestTopic) bool { return t.TopicID == id })
		if allowed.Load() || !named {
			return nil, nil, false
		}
		refused.Add(1)
		part := kmsg.NewFetchResponseTopicPartition()
		part.ErrorCode = kerr.NotLeaderForPartition.Code
		res := fetch.ResponseKind().(*kmsg.FetchResponse)
		res.Topics = append(res.Topics, kmsg.FetchResponseTopic{TopicID: id, Partitions: []kmsg.FetchResponseTopicPartition{part}})
		return res, nil, true
	})
	want := sequence(t, producer, "t", "alice", "a", 3)
	pause(t.Context(), time.Second)
	waitFor(t, "the broker has refused two fetches", func() bool { return refused.Load() >= 2 })
	if hits, bound := refused.Load(), int64(time.Since(begun)/turnInterval)+3; hits > bound {
		t.Errorf("the broker refused %d fetches, want at most %d", hits, bound)
	}
	allowed.Store(true)
	sink.wantLines(t, want)
}

// TestFiveThousandUserTopicsNeedFewConnections checks that the consumer reads 5,000 users' topics over at most
// 24 connections, and that records of every fiftieth user arrive.
func TestFiveThousandUserTopicsNeedFewConnections(t *testing.T) {
	t.Parallel()
	const users = 5000
	var names []string
	for i := range users {
		names = append(names, fmt.Sprint("n.", i))
	}
	var open atomic.Int64
	broker := newBroker(t, kfake.SeedTopics(1, names...), kfake.ListenFn(func(network, address string) (net.Listener, error) {
		l, err := net.Listen(network, address) //nolint:noctx // kfake's signature has no context
		return counter{l, &open}, err
	}))
	sink := newLedger()
	c := configured(t, broker.ListenAddrs(), sink, "n.{user}")
	run(t, c)
	var joined sync.WaitGroup
	for i := range users {
		joined.Go(func() {
			if _, err := c.Join(t.Context(), fmt.Sprint(i)); err != nil {
				t.Error(err)
			}
		})
	}
	joined.Wait()
	if n := open.Load(); n > 24 {
		t.Errorf("%d connections are open for %d topics, want at most 24", n, users)
	}
	write := partitioned(t, broker)
	var want []string
	for i := 0; i < users; i += 50 {
		write(names[i], 0, "", "x")
		want = append(want, fmt.Sprint(i, " x"))
	}
	sink.wantLines(t, sortedCopy(want))
}

// counter counts the open connections of a listener.
type counter struct {
	net.Listener
	open *atomic.Int64
}

func (c counter) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c.open.Add(1)
	return &counted{Conn: conn, open: c.open}, nil
}

type counted struct {
	net.Conn
	once sync.Once
	open *atomic.Int64
}

func (c *counted) Close() error {
	c.once.Do(func() { c.open.Add(-1) })
	return c.Conn.Close()
}
