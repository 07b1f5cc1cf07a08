package server

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"herald/auth"
)

// TestIdempotencyKey repeats a notification with its key, with other keys and with other contents. A repetition
// gets the first answer and writes no record.
func TestIdempotencyKey(t *testing.T) {
	s := startSecured(t, nil)
	alice, bob := s.token(t, auth.Identity{User: "alice", Publish: true}), s.token(t, auth.Identity{User: "bob", Publish: true})
	_, first := s.postWithKey(t, alice, `"one"`, "/broadcast", "a")
	for name, test := range map[string]struct {
		token, key, path, value string
		status                  int
		same                    bool // the answer is the first one
	}{
		"again":                      {alice, `"one"`, "/broadcast", "a", http.StatusCreated, true},
		"without the quotes":         {alice, "one", "/broadcast", "a", http.StatusCreated, true},
		"of another user":            {bob, "one", "/broadcast", "a", http.StatusCreated, false},
		"with another value":         {alice, "one", "/broadcast", "b", http.StatusUnprocessableEntity, false},
		"with another type":          {alice, "one", "/broadcast?type=x", "a", http.StatusUnprocessableEntity, false},
		"for another user":           {alice, "one", "/users/bob/notifications", "a", http.StatusUnprocessableEntity, false},
		"no key":                     {alice, "", "/broadcast", "a", http.StatusCreated, false},
		"empty key":                  {alice, `""`, "/broadcast", "a", http.StatusBadRequest, false},
		"long key":                   {alice, strings.Repeat("k", 256), "/broadcast", "a", http.StatusBadRequest, false},
		"key of other than ASCII":    {alice, "schlüssel", "/broadcast", "a", http.StatusBadRequest, false},
		"key with parameters around": {alice, `"a";b="c"`, "/broadcast", "a", http.StatusBadRequest, false},
	} {
		status, body := s.postWithKey(t, test.token, test.key, test.path, test.value)
		if status != test.status || (body == first) != test.same {
			t.Errorf("%s: %d %s, want %d, and the first answer: %v (%s)", name, status, body, test.status, test.same, first)
		}
	}
	want := []string{"a/one", "a/one", "a/"} // alice's, bob's, and the one without a key
	if diff := cmp.Diff(counts(want), counts(records(t, s.broker, "announcements", len(want)))); diff != "" {
		t.Errorf("records with their keys (-want +got):\n%s", diff)
	}
}

// postWithKey publishes with an Idempotency-Key, or without one if key is empty.
func (s *secured) postWithKey(t *testing.T, token, key, path, value string) (int, string) {
	t.Helper()
	header := bearer(token)
	if key != "" {
		header.Set("Idempotency-Key", key)
	}
	status, _, body := send(t, http.MethodPost, s.url+path, value, header)
	return status, body
}

// TestRepeatWhileFirstIsUnderWay repeats a notification before Kafka has answered the first attempt. The
// repetition gets 409. After Kafka's answer, another repetition gets the first attempt's answer.
func TestRepeatWhileFirstIsUnderWay(t *testing.T) {
	s := startSecured(t, nil)
	alice := s.token(t, auth.Identity{User: "alice", Publish: true})
	held, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	s.broker.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		s.broker.KeepControl()
		once.Do(func() {
			close(held)
			s.broker.SleepControl(func() { <-release })
		})
		return nil, nil, false
	})
	answers := make(chan string, 1)
	go func() {
		_, body := s.postWithKey(t, alice, "slow", "/broadcast", "slow")
		answers <- body
	}()
	<-held
	if status, body := s.postWithKey(t, alice, "slow", "/broadcast", "slow"); status != http.StatusConflict {
		t.Errorf("while the first is under way: %d %s, want 409", status, body)
	}
	close(release)
	slow := <-answers
	if status, body := s.postWithKey(t, alice, "slow", "/broadcast", "slow"); status != http.StatusCreated || body != slow {
		t.Errorf("afterwards: %d %s, want %s", status, body, slow)
	}
}

// TestRefusedAttemptCanBeRepeated repeats a notification after Kafka refused it. The server does not remember the
// refusal: the repetition writes the record.
func TestRefusedAttemptCanBeRepeated(t *testing.T) {
	s := startSecured(t, nil)
	alice := s.token(t, auth.Identity{User: "alice", Publish: true})
	s.broker.ControlKey(int16(kmsg.Produce), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		answer := kreq.ResponseKind().(*kmsg.ProduceResponse)
		topic := kmsg.NewProduceResponseTopic()
		topic.Topic = "announcements"
		partition := kmsg.NewProduceResponseTopicPartition()
		partition.ErrorCode = 29 // TOPIC_AUTHORIZATION_FAILED
		topic.Partitions = append(topic.Partitions, partition)
		answer.Topics = append(answer.Topics, topic)
		return answer, nil, true
	})
	if status, body := s.postWithKey(t, alice, "refused", "/broadcast", "refused"); status != http.StatusBadGateway {
		t.Errorf("Kafka refuses: %d %s, want 502", status, body)
	}
	if status, body := s.postWithKey(t, alice, "refused", "/broadcast", "refused"); status != http.StatusCreated {
		t.Errorf("tried again: %d %s, want 201", status, body)
	}
}

// records reads n records of a topic, and returns the value and the Idempotency-Key of each.
func records(t *testing.T, broker *kfake.Cluster, topic string, n int) []string {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(broker.ListenAddrs()...), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	var got []string
	for len(got) < n {
		fetches := client.PollFetches(t.Context())
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			key := ""
			for _, h := range r.Headers {
				if h.Key == "idempotency-key" {
					key = string(h.Value)
				}
			}
			got = append(got, string(r.Value)+"/"+key)
		})
	}
	return got
}

func counts(list []string) map[string]int {
	n := make(map[string]int)
	for _, s := range list {
		n[s]++
	}
	return n
}

// TestRepeatsAreBounded uses more keys than one user may have, and lets the window pass. The server forgets the
// oldest keys first, and all keys after the window.
func TestRepeatsAreBounded(t *testing.T) {
	r := newRepeats()
	now := time.Unix(0, 0)
	ask := func(key string) bool { // whether it is known
		first, err := r.begin(repeatKey{"alice", key}, [32]byte{}, now)
		if err != nil {
			t.Fatal(err)
		}
		if first.done {
			return true
		}
		r.end(first, published{}, true)
		return false
	}
	for n := range 3 * maxRepeats {
		ask(fmt.Sprint(n))
	}
	if len(r.known) != maxUserRepeats || len(r.order) != maxUserRepeats {
		t.Errorf("%d keys are known, %d in order, want %d of one user", len(r.known), len(r.order), maxUserRepeats)
	}
	if !ask(fmt.Sprint(3*maxRepeats-1)) || ask("0") {
		t.Error("want the oldest keys forgotten first")
	}
	now = now.Add(repeatWindow + 1)
	if ask(fmt.Sprint(3*maxRepeats - 1)) {
		t.Error("a key is known after the window")
	}
	if len(r.known) != 1 {
		t.Errorf("%d keys are known after the window, want one", len(r.known))
	}
	// A failed attempt expires; a second attempt with its key has a window of its own.
	failed, err := r.begin(repeatKey{"alice", "failed"}, [32]byte{}, now)
	if err != nil {
		t.Fatal(err)
	}
	r.end(failed, published{}, false)
	now = now.Add(repeatWindow / 2)
	ask("failed")
	now = now.Add(repeatWindow/2 + 1)
	if !ask("failed") {
		t.Error("the second attempt was forgotten at the time of the first")
	}
}

// TestAttemptsUnderWayStay begins attempts with many other keys, of the same user and of other users, while one
// attempt is under way. The server does not forget that attempt.
func TestAttemptsUnderWayStay(t *testing.T) {
	r := newRepeats()
	now := time.Unix(0, 0)
	begin := func(user string, n int) (*attempt, error) {
		return r.begin(repeatKey{user, fmt.Sprint(n)}, [32]byte{}, now)
	}
	first, err := begin("alice", 0)
	if err != nil {
		t.Fatal(err)
	}
	for n := range 2 * maxRepeats {
		for _, user := range []string{"alice", fmt.Sprint("user", n%50)} {
			other, err := begin(user, n+1)
			if err != nil {
				t.Fatal(err)
			}
			r.end(other, published{}, true)
		}
	}
	now = now.Add(2 * repeatWindow)
	if _, err := begin("alice", 0); !errors.Is(err, errRepeatPending) {
		t.Errorf("after many other keys: %v, want that it is under way", err)
	}
	r.end(first, published{Offset: 7}, true)

	// The server refuses further attempts of a user with too many under way; other users notice nothing.
	full, tries := 0, make([]*attempt, 0, maxUserRepeats)
	for n := range 2 * maxUserRepeats {
		switch a, err := begin("busy", n); {
		case errors.Is(err, errRepeatsFull):
			full++
		case err != nil:
			t.Fatal(err)
		default:
			tries = append(tries, a)
		}
	}
	if full != maxUserRepeats || len(tries) != maxUserRepeats {
		t.Errorf("%d of one user are under way and %d refused, want %d of each", len(tries), full, maxUserRepeats)
	}
	if _, err := begin("carol", 1); err != nil {
		t.Errorf("another user: %v", err)
	}
	for _, a := range tries {
		r.end(a, published{}, false)
	}
	if r.users["busy"] != 0 || len(r.users) != 1 || len(r.order) != 1 || len(r.known) != 1 {
		t.Errorf("%v users, %d in order, %d known; want carol's only", r.users, len(r.order), len(r.known))
	}
}
