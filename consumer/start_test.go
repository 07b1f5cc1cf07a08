package consumer

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// gate lets the fetches of sessions pass one by one.
type gate struct {
	waiting chan struct{} // a fetch waits
	pass    chan struct{} // each that is sent lets one pass; closed: all
}

// newGate holds the fetches that come to the broker from now on.
func newGate(broker *kfake.Cluster) *gate {
	g := &gate{make(chan struct{}, 100), make(chan struct{})}
	broker.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		if req.(*kmsg.FetchRequest).SessionEpoch != -1 { // which replays have
			broker.SleepControl(func() {
				select {
				case g.waiting <- struct{}{}:
				default: // nobody counts any more
				}
				<-g.pass
			})
		}
		return nil, nil, false // the broker goes on with it
	})
	return g
}

// await waits until so many more fetches wait.
func (g *gate) await(t *testing.T, fetches int) {
	t.Helper()
	for range fetches {
		select {
		case <-g.waiting:
		case <-time.After(20 * time.Second):
			t.Fatal("no fetch comes")
		}
	}
}

// TestWhatComesBeforeTheFirstFetch starts at the end of the log and holds the first fetch: what is
// produced since the broker was asked where the end is arrives, and what was before does not.
func TestWhatComesBeforeTheFirstFetch(t *testing.T) {
	t.Parallel()
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(3, "shared"), kfake.SeedTopics(1, "own.alice"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Close)
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
	g.await(t, 2) // one of each session
	want := sequence(t, producer, "shared", "alice", "meanwhile", 3)
	for _, line := range sequence(t, producer, "own.alice", "", "own", 3) {
		want = append(want, "alice"+line)
	}
	close(g.pass)
	sink.wantLines(t, sortedCopy(want))
}
