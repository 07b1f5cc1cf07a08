package stream

import (
	"bufio"
	"context"
	"fmt"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kfake"

	"herald/consumer"
	"herald/consumer/batch"
)

// TestLargeEvents sends large and small events over each protocol between heartbeats, live and by replay.
// Each event must arrive once and unchanged.
func TestLargeEvents(t *testing.T) {
	overHTTP1 := (*httptest.Server).Start
	for _, version := range []string{"1.0", "1.1", "2"} {
		t.Run(version, func(t *testing.T) {
			start := overHTTP1
			if version == "2" {
				start = overHTTP2(time.Minute)
			}
			s := serveWith(t, Config{Heartbeat: time.Millisecond, WriteTimeout: time.Minute, MaxQueue: 1 << 20}, start)
			open := func(lastID string) *client {
				if version != "1.0" {
					return openWith(t, s.Client(), s.url+"alice", lastID)
				}
				_, r := dial(t, s.url+"alice&lastEventId="+lastID, version)
				c := &client{t: t, scan: bufio.NewScanner(r)}
				c.scan.Buffer(nil, 1<<20)
				return c
			}
			live := open("")
			from := live.next().id
			var sent []string
			for i := range 40 {
				value := fmt.Sprint(i, " small")
				if i%4 > 0 {
					value = fmt.Sprint(i, strings.Repeat("\n large", 8<<10+i))
				}
				sent = append(sent, value)
				put(t, s.producer, []string{"shared", "all", "own.alice"}[i%3], "alice", value)
			}
			for _, c := range []*client{live, open(from)} {
				got := make(map[string]int)
				for len(got) < len(sent) {
					if e := c.next(); e.kind == "" {
						got[e.data]++
					}
				}
				for i, value := range sent {
					if got[value] != 1 {
						t.Errorf("event %d came %d times", i, got[value])
					}
				}
			}
		})
	}
}

// caughtUp returns the subscription of a stream that has caught up.
func caughtUp(h *Hub, user string, maxBytes int) *subscription {
	s := newSubscription(user, maxBytes, &clientStream{env: &streamEnv{overflow: func(*subscription) {}}}, func(*clientStream) {})
	s.topics = []consumer.UserTopic{{Topic: "shared"}}
	h.addSubscription(s)
	s.acceptLiveRecords()
	return s
}

// TestLargeAtAnOffsetAgain cuts a log, as an unclean leader election does, and writes a large event of another
// user at the same offset. Each user must get only the own event.
func TestLargeAtAnOffsetAgain(t *testing.T) {
	h, p := NewHub("event-type", nil), consumer.Partition{Topic: "shared"}
	h.Begin(p, [16]byte{1}, 7)
	alice, bob := caughtUp(h, "alice", 1<<20), caughtUp(h, "bob", 1<<20)
	large := func(user string) []consumer.Record {
		return []consumer.Record{{Record: batch.Record{Offset: 7, Value: []byte(strings.Repeat(user, 1<<15))}, User: []byte(user)}}
	}
	h.Deliver(p, large("alice"), 8)
	h.Gap(p, consumer.Gap{From: 8, To: 7, Reason: consumer.GapUnknownID})
	bob.acceptLiveRecords()
	h.Deliver(p, large("bob"), 8)
	for user, s := range map[string]*subscription{"alice": alice, "bob": bob} {
		q, _, _ := s.takeQueue()
		if want := "data: " + strings.Repeat(user, 1<<15) + "\n\n"; len(q.items) != 1 || string(q.items[0].large.text) != want {
			t.Errorf("%s has %d events, of which the first is %.40q", user, len(q.items), q.items[0].large.text)
		}
	}
}

// TestLargeEventsCount checks that the bytes of large events count against a queue's bound until the queue is
// taken.
func TestLargeEventsCount(t *testing.T) {
	h, p := NewHub("event-type", nil), consumer.Partition{Topic: "shared"}
	h.Begin(p, [16]byte{1}, 0)
	s := caughtUp(h, "alice", 100<<10)
	for round := range int64(20) { // queues come from a pool
		for i := range int64(3) {
			h.Deliver(p, []consumer.Record{{Record: batch.Record{Offset: 3*round + i, Value: make([]byte, 40<<10)}, User: []byte("alice")}}, 3*round+i+1)
		}
		q, behind, _ := s.takeQueue()
		if len(q.items) != 2 || !behind {
			t.Fatalf("%d events of 40 KiB are queued where 100 KiB may be, behind: %t", len(q.items), behind)
		}
		q.free()
		s.acceptLiveRecords()
	}
}

// TestRevokedBehindLarge revokes access while events wait after a large event. They must not be sent.
func TestRevokedBehindLarge(t *testing.T) {
	h, p := NewHub("event-type", nil), consumer.Partition{Topic: "shared"}
	h.Begin(p, [16]byte{1}, 0)
	out := new(partOutput)
	s := newStream(t, streamOptions{hub: h, kafka: stillKafka{}, out: out})
	s.writer.cursor = cursor{newTopicCursor("shared", newIncarnation([16]byte{1}))}
	s.sub = caughtUp(h, "alice", 1<<20)
	for i, value := range []string{strings.Repeat("large", 1<<15), "small"} {
		h.Deliver(p, []consumer.Record{{Record: batch.Record{Offset: int64(i), Value: []byte(value)}, User: []byte("alice")}}, int64(i)+1)
	}
	for range 2 {
		_, _ = s.gather()
		if err := s.writer.flush(); err != nil {
			t.Fatal(err)
		}
		s.sub.end(ErrRevoked)
	}
	if text := string(out.text); !strings.HasSuffix(text, "large\n\n") || s.taken != nil {
		t.Errorf("the stream was sent …%q; %d records are left", text[max(0, len(text)-60):], len(s.taken.items))
	}
}

// TestLargeBroadcast delivers an event of 7 MiB to many streams whose clients read nothing. The event must be
// in memory once, live and by replay, and must be freed when the streams end. The same holds with the fields of the
// event, although each stream has other ones, and in the format JSON.
func TestLargeBroadcast(t *testing.T) {
	for name, query := range map[string]string{"plain": "", "fields": "&fields=time,key,pos", "JSON": "&fields=time,key,pos&format=json"} {
		t.Run(name, func(t *testing.T) { broadcastLarge(t, query, "k") })
	}
	t.Run("key", func(t *testing.T) { broadcastLarge(t, "&fields=key", strings.Repeat("k", 1<<19)) })
}

func broadcastLarge(t *testing.T, query, key string) {
	t.Helper()
	const count = 100
	broker := startBroker(t, kfake.SeedTopics(1, "all")) // one partition, so that streams get the records in order
	s := serveOn(t, broker, Config{Heartbeat: time.Hour, WriteTimeout: time.Hour}, (*httptest.Server).Start, []consumer.Route{{Topic: "all", Kind: consumer.Broadcast}})
	value := strings.Repeat("\n", 1<<20-1000-len(key))
	await := func(want float64) {
		t.Helper()
		given := func() float64 {
			return testutil.ToFloat64(s.hub.metrics.live) + testutil.ToFloat64(s.hub.metrics.replayed)
		}
		for deadline := time.Now().Add(20 * time.Second); given() < want; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("streams were given %v events, want %v", given(), want)
			}
		}
	}
	stuck := func(since string) {
		for i := range count {
			_, r := dial(t, fmt.Sprint(s.url, "user", i, query, since), "1.1")
			readUntil(t, r, "checkpoint")
		}
	}
	before := heapAfterGC()
	holds := func(how string) {
		t.Helper()
		if grown := heapAfterGC() - before; grown > 50<<20 {
			t.Errorf("%s, %d streams hold %d MiB for an event of 7 MiB", how, count, grown>>20)
		}
	}
	stuck("")
	put(t, s.producer, "all", "", "small") // a stream that gets this record has caught up
	await(count)
	put(t, s.producer, "all", key, value)
	await(2 * count)
	holds("live")
	stuck("&since=earliest")
	await(4 * count)
	holds("by replay, too")
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	s.handler.Drain(ctx, 0)
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		heapAfterGC()
		s.hub.larges.mu.Lock()
		left := len(s.hub.larges.events)
		s.hub.larges.mu.Unlock()
		if left == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d large events are still known", left)
		}
	}
}

func heapAfterGC() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
