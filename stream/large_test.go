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
)

// TestLargeEvents sends large and small events, live and again by replay, over each protocol, between
// heartbeats: what arrives is what was produced, once.
func TestLargeEvents(t *testing.T) {
	overHTTP1 := (*httptest.Server).Start
	for _, version := range []string{"1.0", "1.1", "2"} {
		t.Run(version, func(t *testing.T) {
			start := overHTTP1
			if version == "2" {
				start = overHTTP2(time.Minute)
			}
			s := serveWith(t, Config{Heartbeat: time.Millisecond, MaxQueue: 1 << 20}, start)
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

// TestLargeBroadcast has streams whose clients read nothing when an event of 7 MiB comes for all of them:
// it is in memory once, live and by replay, and is let go of with them.
func TestLargeBroadcast(t *testing.T) {
	const count = 100
	s := serveWith(t, Config{Heartbeat: time.Hour, WriteTimeout: time.Hour}, (*httptest.Server).Start)
	value := strings.Repeat("\n", 1<<20-1000)
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
	stuck := func(query string) {
		for i := range count {
			_, r := dial(t, fmt.Sprint(s.url, "user", i, query), "1.1")
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
	put(t, s.producer, "all", "", "small") // those who take this have caught up
	await(count)
	put(t, s.producer, "all", "", value)
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
