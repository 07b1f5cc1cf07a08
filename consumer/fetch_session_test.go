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

// watchedSession is a fetch session whose requests the test sees.
type watchedSession struct {
	session    *fetchSession
	topicID    [16]byte
	want       map[topicIDPartition]int64 // the partitions to fetch, with their offsets
	sent, full *kmsg.FetchRequest         // the last request, and the last request that begins a session
	answer     *kmsg.FetchResponse        // the broker's answer; nil: the broker answers as usual
}

func (w *watchedSession) at(p int32) topicIDPartition { return topicIDPartition{w.topicID, p} }

// lastSent summarizes the last request. was is the session's ID before the request.
func (w *watchedSession) lastSent(was int32) fetchSent {
	got := fetchSent{Same: w.sent.SessionID != 0 && w.sent.SessionID == was, Epoch: w.sent.SessionEpoch}
	for _, topic := range w.sent.Topics {
		for _, p := range topic.Partitions {
			got.Named = append(got.Named, fmt.Sprint(p.Partition, "@", p.FetchOffset))
		}
	}
	slices.Sort(got.Named)
	for _, topic := range w.sent.ForgottenTopics {
		got.Forgotten = append(got.Forgotten, topic.Partitions...)
	}
	return got
}

// watchSession begins a fetch session with a broker that has three partitions; partition 1 has a record.
func watchSession(t *testing.T) *watchedSession {
	t.Helper()
	broker := newBroker(t, kfake.SeedTopics(3, "t"))
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

	w := &watchedSession{topicID: found["t"].ID}
	w.want = map[topicIDPartition]int64{w.at(0): 0, w.at(1): 0, w.at(2): 0}
	broker.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		broker.KeepControl()
		if w.sent = req.(*kmsg.FetchRequest); w.sent.SessionEpoch == 0 {
			w.full = w.sent
		}
		if w.answer == nil {
			return nil, nil, false
		}
		w.answer.Version = w.sent.Version
		return w.answer, nil, true
	})
	w.session = newFetchSession(c.cluster, c.cfg.fetchOptions(), broker.LeaderFor("t", 0))
	return w
}

// allAt returns all partitions as a full fetch names them when partition 1 is at the offset.
func allAt(offset1 int64) []string { return []string{"0@0", fmt.Sprint("1@", offset1), "2@0"} }

// fetchSteps are the fetches of one session, in order.
var fetchSteps = []struct {
	name   string
	before func(s *watchedSession) // changes what the fetch or the broker sends
	fails  error                   // the error of the fetch
	want   fetchSent
}{
	{"the first fetch names all partitions", nil, nil, fetchSent{false, 0, allAt(0), nil}},
	{"nothing has moved", nil, nil, fetchSent{true, 1, nil, nil}},
	{"one has moved", func(s *watchedSession) { s.want[s.at(1)] = 1 }, nil, fetchSent{true, 2, []string{"1@1"}, nil}},
	{"nothing has moved since", nil, nil, fetchSent{true, 3, nil, nil}},
	{"one is no longer wanted", func(s *watchedSession) { delete(s.want, s.at(2)) }, nil, fetchSent{true, 4, nil, []int32{2}}},
	{"it is forgotten once", nil, nil, fetchSent{true, 5, nil, nil}},
	{"it is wanted again", func(s *watchedSession) { s.want[s.at(2)] = 0 }, nil, fetchSent{true, 6, []string{"2@0"}, nil}},
	{"the broker has forgotten the session", func(s *watchedSession) { s.answer = &kmsg.FetchResponse{ErrorCode: kerr.FetchSessionIDNotFound.Code} }, kerr.FetchSessionIDNotFound, fetchSent{true, 7, nil, nil}},
	{"a new session names all partitions", func(s *watchedSession) { s.answer = nil }, nil, fetchSent{false, 0, allAt(1), nil}},
	{"the new session continues", nil, nil, fetchSent{true, 1, nil, nil}},
	{"the broker expects another epoch", func(s *watchedSession) { s.answer = &kmsg.FetchResponse{ErrorCode: kerr.InvalidFetchSessionEpoch.Code} }, kerr.InvalidFetchSessionEpoch, fetchSent{true, 2, nil, nil}},
	{"another session names all partitions", func(s *watchedSession) { s.answer = nil }, nil, fetchSent{false, 0, allAt(1), nil}},
	{"the broker has no room for sessions", func(s *watchedSession) { s.answer = new(kmsg.FetchResponse) }, nil, fetchSent{true, 1, nil, nil}},
	{"without a session a fetch names all partitions", nil, nil, fetchSent{false, 0, allAt(1), nil}},
	{"each fetch does", nil, nil, fetchSent{false, 0, allAt(1), nil}},
	{"the broker has room again", func(s *watchedSession) { s.answer = nil }, nil, fetchSent{false, 0, allAt(1), nil}},
	{"the session continues", nil, nil, fetchSent{true, 1, nil, nil}},
}

// TestFetchNamesOnlyPartitionsThatMoved checks that a fetch names only the partitions that moved since the
// previous fetch of its session (KIP-227). It fetches from three partitions in one session, step by step.
func TestFetchNamesOnlyPartitionsThatMoved(t *testing.T) {
	t.Parallel()
	s := watchSession(t)
	for _, step := range fetchSteps {
		if step.before != nil {
			step.before(s)
		}
		was := s.session.id
		_, err := s.session.fetch(t.Context(), s.want, time.Millisecond)
		if !errors.Is(err, step.fails) {
			t.Fatalf("%s: error %v, want %v", step.name, err, step.fails)
		}
		got := s.lastSent(was)
		if diff := cmp.Diff(step.want, got); diff != "" {
			t.Fatalf("%s (-want +got):\n%s", step.name, diff)
		}
	}

	// A fetch given up may have reached the broker or not, or may reach it after the next fetch. The next
	// fetch begins a new session, and names the session that the broker may still have.
	was := s.session.id
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.session.fetch(ctx, s.want, time.Millisecond); err == nil {
		t.Fatal("a fetch whose context has ended succeeds")
	}
	if _, err := s.session.fetch(t.Context(), s.want, time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if s.full.SessionID != was || len(s.full.Topics) != 1 || len(s.full.Topics[0].Partitions) != 3 {
		t.Errorf("after a fetch was given up: the full fetch names session %d and topics %+v, want session %d and all partitions", s.full.SessionID, s.full.Topics, was)
	}
}
