package main

import (
	"context"
	"errors"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"
)

// TestMain is the server of a session, if a session has started this program. Else it runs the tests, and fails them if one
// of them leaves a goroutine running.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "serve" {
		main()
		return
	}
	goleak.VerifyTestMain(m)
}

// startBroker starts a broker with the topics in this process, and returns its addresses and a client.
func startBroker(t *testing.T, topics ...string) ([]string, *kgo.Client) {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(4, topics...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	kafka, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.ProducerLinger(0))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(kafka.Close)
	return cluster.ListenAddrs(), kafka
}

// TestSession runs a short session of each transport. Its clients are cut every half second. Each must get each of its
// records once, and no record of another user. The measured values must be possible.
func TestSession(t *testing.T) {
	brokers, kafka := startBroker(t)
	const clients, rate = 8, 20
	for _, transport := range transports {
		t.Run(transport.name, func(t *testing.T) {
			t.Parallel()
			transport.wait, transport.every = min(transport.wait, time.Second), min(transport.every, 200*time.Millisecond)
			s := session{
				setting: direct, transport: transport, count: clients, rates: []float64{rate}, cuts: true, cache: 1 << 20, kafka: kafka,
				timing: timing{
					window: 500 * time.Millisecond, warmUp: 100 * time.Millisecond,
					open: time.Minute, late: time.Minute, cutEvery: 500 * time.Millisecond, cutFor: 1500 * time.Millisecond,
				},
			}
			list, err := s.measure(t.Context(), brokers)
			if err != nil && !errors.Is(err, errNotReached) { // a busy machine may not reach the rate
				t.Fatal(err)
			}
			if len(s.load.reasons) > 0 {
				t.Errorf("clients met %v", s.load.reasons)
			}
			value := func(setting setting, rate float64, m measure) float64 {
				i := slices.IndexFunc(list, func(r result) bool { return r.Setting == setting && r.Rate == rate && r.Measure == m })
				if i < 0 {
					t.Fatalf("%s of %s at the rate %v was not measured; measured: %v", m, setting, rate, list)
				}
				return list[i].Value
			}
			for _, m := range []measure{lost, doubled} {
				if n := value(direct, 0, m); n != 0 {
					t.Errorf("%v records %s", n, m)
				}
			}
			if err != nil {
				return // without the rate, the session has no cuts
			}
			for _, m := range []measure{lost, doubled} {
				if n := value(cuts, 1, m); n != 0 {
					t.Errorf("%v records %s after cuts", n, m)
				}
			}
			if transport.every == 0 && value(cuts, 1, liveAgainP50) <= 0 {
				t.Error("no client was live again after a cut")
			}
			if n := value(direct, rate, wireEvent); !transport.deflate && n < notificationSize {
				t.Errorf("%v bytes for each record, but its value alone has %v", n, notificationSize)
			}
			if n := value(direct, rate, requests); (n > 0) != (transport.protocol == poll) {
				t.Errorf("%v requests a minute while all clients were live", n)
			}
		})
	}
}

// TestCutDoesNotCountAsFailure resets the connection of a client that is live, as a cut does while the client reads that it
// is live again. The client must connect again. The cut must not count as a reason why a connection has ended by itself.
func TestCutDoesNotCountAsFailure(t *testing.T) {
	const topic = "cut"
	brokers, _ := startBroker(t, topic)
	server, err := startServer(t.Context(), brokers, topic, false, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer server.stop()
	transport, err := transportOf("ws")
	if err != nil {
		t.Fatal(err)
	}
	running, stop := context.WithCancel(t.Context())
	l := newLoad(transport, server.address, 1)
	defer l.stop()
	defer stop()
	if err := l.start(running, 0, 1, time.Minute); err != nil {
		t.Fatal(err)
	}
	asked := l.requests.Load()
	l.clients[0].conn.reset() // safe to read: only the client sets conn, and it does so before it is live
	for end := time.Now().Add(time.Minute); l.requests.Load() == asked && time.Now().Before(end); {
		sleep(running, 10*time.Millisecond)
	}
	stop()
	l.stop()
	if l.requests.Load() == asked || len(l.reasons) > 0 {
		t.Errorf("%d requests after the cut, reasons %v", l.requests.Load()-asked, l.reasons)
	}
}
