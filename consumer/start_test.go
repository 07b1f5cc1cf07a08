package consumer

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// gate holds the fetches of sessions and releases them one by one.
type gate struct {
	waiting chan struct{} // one element for each fetch that waits
	pass    chan struct{} // one element releases one fetch; closing it releases all
}

// newGate returns a gate that holds the fetches that arrive at the broker from now on.
func newGate(broker *kfake.Cluster) *gate {
	g := &gate{make(chan struct{}, 100), make(chan struct{})}
	broker.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		if req.(*kmsg.FetchRequest).SessionEpoch != -1 { // replays fetch without a session
			broker.SleepControl(func() {
				select {
				case g.waiting <- struct{}{}:
				default: // the channel is full, and the test no longer waits for fetches
				}
				<-g.pass
			})
		}
		return nil, nil, false // the broker answers the fetch itself
	})
	return g
}

// await waits until the given number of further fetches wait.
func (g *gate) await(t *testing.T, fetches int) {
	t.Helper()
	for range fetches {
		select {
		case <-g.waiting:
		case <-time.After(20 * time.Second):
			t.Fatal("no fetch arrived within 20 s")
		}
	}
}

// TestRecordsWrittenBeforeTheFirstFetchArrive checks a consumer that starts at the end of the log while the
// broker holds the first fetch. Records written after the broker reported the end arrive. Older records do not.
func TestRecordsWrittenBeforeTheFirstFetchArrive(t *testing.T) {
	t.Parallel()
	broker := newBroker(t, kfake.SeedTopics(3, "shared"), kfake.SeedTopics(1, "own.alice"))
	producer := NewProducer(broker.ListenAddrs(), nil, nil)
	t.Cleanup(producer.Close)
	sequence(t, producer, "shared", "alice", "before", 3)
	sequence(t, producer, "own.alice", "", "before", 3)
	g := newGate(broker)
	c, sink, _ := startAt(t, broker, "shared", "own.{user}")
	ready(t, c)
	if _, err := c.Join(t.Context(), "alice"); err != nil {
		t.Fatal(err)
	}
	g.await(t, 2) // one fetch of each session
	want := sequence(t, producer, "shared", "alice", "meanwhile", 3)
	for _, line := range sequence(t, producer, "own.alice", "", "own", 3) {
		want = append(want, "alice"+line)
	}
	close(g.pass)
	sink.wantLines(t, sortedCopy(want))
}
