package integration

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

// TestNativeEventSource cuts streams of browsers' EventSources: idle streams, which have received only the
// checkpoint, and a busy stream, after random numbers of bytes. No record may be lost, repeated or out of order.
func TestNativeEventSource(t *testing.T) {
	t.Parallel()
	for _, b := range []*browser{&chromium, &firefox, &webKit} {
		t.Run(b.name, func(t *testing.T) {
			b.require(t, "native EventSource")
			cutNative(t, b)
		})
	}
}

func cutNative(t *testing.T, b *browser) {
	t.Helper()
	kafka := sharedBroker(t)
	const ended, reset, busy = "ended", "reset", "busy"
	shared, own := kafka.newTopic(t, "shared", 2), topicName(t, "own")
	lanes := make(map[string][]*lane)
	for _, user := range []string{ended, reset, busy} {
		kafka.createTopic(t, own+"."+user, 1)
		lanes[user] = []*lane{
			{name: "shared/0", topic: shared, keys: []string{user}},
			{name: "shared/1", topic: shared, partition: 1, keys: []string{user}},
			{name: "own", topic: own + "." + user, keys: []string{""}},
		}
	}
	h := startHerald(t, kafka, "--topic="+shared, "--topic="+own+".{user}", "--retry=50ms")
	o := newOrigin(t, h, ended, reset, busy)
	b.open(t, o.page())
	for _, user := range []string{ended, reset} {
		s := o.streams[user]
		start := s.live(t)
		comeBack := s.holdOff()
		s.cut(user == reset)
		for n := range 3 {
			for _, l := range lanes[user] {
				kafka.produce(t, l.record(n))
			}
		}
		if got := comeBack(t); got != start.ID {
			t.Errorf("%s: it reconnects with the id %q, want the id of the checkpoint, %q", user, got, start.ID)
		}
		got := inOrder{}
		for range 3 * len(lanes[user]) {
			got.add(t, s.record(t).Data)
		}
		got.check(t, lanes[user], 3)
	}
	cutBusy(t, kafka, o.streams[busy], lanes[busy])
}

// nativeCuts is how often a busy client is cut. Firefox waits half a second each time.
const nativeCuts = 20

func cutBusy(t *testing.T, kafka *broker, s *nativeStream, lanes []*lane) {
	t.Helper()
	s.live(t)
	s.cutAfter(func() int64 { return 100 + rand.Int64N(8000) })
	stop := make(chan struct{})
	var written int
	var producer sync.WaitGroup
	producer.Go(func() {
		for ; ; written++ {
			for _, l := range lanes {
				if err := kafka.producer.ProduceSync(t.Context(), l.record(written)).FirstErr(); err != nil {
					t.Errorf("produce: %v", err)
					return
				}
			}
			select {
			case <-stop:
				written++
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	})
	got, received := inOrder{}, 0
	for s.countCuts() < nativeCuts {
		got.add(t, s.record(t).Data)
		received++
	}
	close(stop)
	producer.Wait()
	s.cutAfter(nil)
	for ; received < written*len(lanes); received++ {
		got.add(t, s.record(t).Data)
	}
	got.check(t, lanes, written)
	s.cut(false)
	for _, l := range lanes { // fails if an earlier record comes again
		kafka.produce(t, l.record(written))
		got.add(t, s.record(t).Data)
	}
	t.Logf("%d records over %d cuts", received, s.countCuts())
}
