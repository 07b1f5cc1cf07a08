package consumer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// fetchSent is the part of a fetch request that concerns its session.
type fetchSent struct {
	Same      bool // the request names the session of the previous answer
	Epoch     int32
	Named     []string // "partition@offset"
	Forgotten []int32
}

// TestFetchNamesOnlyPartitionsThatMoved fetches from three partitions in one session (KIP-227), step by step,
// and looks at each request.
func TestFetchNamesOnlyPartitionsThatMoved(t *testing.T) {
	t.Parallel()
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(3, "t"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Close)
	producer, err := kgo.NewClient(kgo.SeedBrokers(broker.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(producer.Close)
	if err := producer.ProduceSync(t.Context(), &kgo.Record{Topic: "t", Partition: 1, Value: []byte("x")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	c := configured(t, broker.ListenAddrs(), newLedger(), "t")
	t.Cleanup(c.cluster.Close)
	found, err := c.cluster.FetchMetadata(t.Context(), []string{"t"}, false)
	if err != nil {
		t.Fatal(err)
	}

	var sent, full *kmsg.FetchRequest // the last request, and the last request that begins a session
	var answer *kmsg.FetchResponse    // the broker's answer; nil: the broker answers as usual
	broker.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		broker.KeepControl()
		if sent = req.(*kmsg.FetchRequest); sent.SessionEpoch == 0 {
			full = sent
		}
		if answer == nil {
			return nil, nil, false
		}
		answer.Version = sent.Version
		return answer, nil, true
	})
	at := func(p int32) topicIDPartition { return topicIDPartition{found["t"].ID, p} }
	want := map[topicIDPartition]int64{at(0): 0, at(1): 0, at(2): 0}
	s := newFetchSession(c.cluster, c.cfg.fetchOptions(), broker.LeaderFor("t", 0))
	all := func(offset1 int64) []string { return []string{"0@0", fmt.Sprint("1@", offset1), "2@0"} }
	for _, step := range []struct {
		name   string
		before func()
		fails  error
		want   fetchSent
	}{
		{"the first fetch names all partitions", nil, nil, fetchSent{false, 0, all(0), nil}},
		{"nothing has moved", nil, nil, fetchSent{true, 1, nil, nil}},
		{"one has moved", func() { want[at(1)] = 1 }, nil, fetchSent{true, 2, []string{"1@1"}, nil}},
		{"nothing has moved since", nil, nil, fetchSent{true, 3, nil, nil}},
		{"one is no longer wanted", func() { delete(want, at(2)) }, nil, fetchSent{true, 4, nil, []int32{2}}},
		{"it is forgotten once", nil, nil, fetchSent{true, 5, nil, nil}},
		{"it is wanted again", func() { want[at(2)] = 0 }, nil, fetchSent{true, 6, []string{"2@0"}, nil}},
		{"the broker has forgotten the session", func() { answer = &kmsg.FetchResponse{ErrorCode: kerr.FetchSessionIDNotFound.Code} }, kerr.FetchSessionIDNotFound, fetchSent{true, 7, nil, nil}},
		{"a new session names all partitions", func() { answer = nil }, nil, fetchSent{false, 0, all(1), nil}},
		{"the new session continues", nil, nil, fetchSent{true, 1, nil, nil}},
		{"the broker expects another epoch", func() { answer = &kmsg.FetchResponse{ErrorCode: kerr.InvalidFetchSessionEpoch.Code} }, kerr.InvalidFetchSessionEpoch, fetchSent{true, 2, nil, nil}},
		{"another session names all partitions", func() { answer = nil }, nil, fetchSent{false, 0, all(1), nil}},
		{"the broker has no room for sessions", func() { answer = new(kmsg.FetchResponse) }, nil, fetchSent{true, 1, nil, nil}},
		{"without a session a fetch names all partitions", nil, nil, fetchSent{false, 0, all(1), nil}},
		{"each fetch does", nil, nil, fetchSent{false, 0, all(1), nil}},
		{"the broker has room again", func() { answer = nil }, nil, fetchSent{false, 0, all(1), nil}},
		{"the session continues", nil, nil, fetchSent{true, 1, nil, nil}},
	} {
		if step.before != nil {
			step.before()
		}
		was := s.id
		_, err := s.fetch(t.Context(), want, time.Millisecond)
		if !errors.Is(err, step.fails) {
			t.Fatalf("%s: %v, want %v", step.name, err, step.fails)
		}
		got := fetchSent{Same: sent.SessionID != 0 && sent.SessionID == was, Epoch: sent.SessionEpoch}
		for _, topic := range sent.Topics {
			for _, p := range topic.Partitions {
				got.Named = append(got.Named, fmt.Sprint(p.Partition, "@", p.FetchOffset))
			}
		}
		slices.Sort(got.Named)
		for _, topic := range sent.ForgottenTopics {
			got.Forgotten = append(got.Forgotten, topic.Partitions...)
		}
		if diff := cmp.Diff(step.want, got); diff != "" {
			t.Fatalf("%s (-want +got):\n%s", step.name, diff)
		}
	}

	// A fetch given up may have reached the broker or not, or may reach it after the next fetch. The next
	// fetch begins a new session, and names the session that the broker may still have.
	was := s.id
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.fetch(ctx, want, time.Millisecond); err == nil {
		t.Fatal("a fetch whose context has ended succeeds")
	}
	if _, err := s.fetch(t.Context(), want, time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if full.SessionID != was || len(full.Topics) != 1 || len(full.Topics[0].Partitions) != 3 {
		t.Errorf("after a fetch was given up: session %d, %+v, want %d and all partitions", full.SessionID, full.Topics, was)
	}
}
