package main

import (
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
			if perMinute, least := value(direct, rate, wireMinute), float64(rate*60*notificationSize); !transport.deflate && perMinute < least {
				t.Errorf("%v bytes a minute, but the values alone have %v", perMinute, least)
			}
			if n := value(direct, rate, requests); (n > 0) != (transport.protocol == poll) {
				t.Errorf("%v requests a minute while all clients were live", n)
			}
		})
	}
}
