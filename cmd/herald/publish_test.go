package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
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

// TestPublishQuota lets one user publish too fast, and another one not be hindered by it.
func TestPublishQuota(t *testing.T) {
	s := startSecured(t, func(set *settings) { set.PublishRate, set.PublishBurst = 0.01, 3 })
	fast, other := bearer(s.token(t, auth.Identity{User: "fast", Publish: true})), bearer(s.token(t, auth.Identity{User: "other", Publish: true}))
	for n := range 5 {
		status, header, body := request(t, http.MethodPost, s.url+"/broadcast", fast)
		want := http.StatusCreated
		if n >= 3 {
			want = http.StatusTooManyRequests
			if seconds, err := strconv.Atoi(header.Get("Retry-After")); err != nil || seconds < 90 || seconds > 100 {
				t.Errorf("Retry-After %q, want that of 1 in 100 s", header.Get("Retry-After"))
			}
		}
		if status != want {
			t.Errorf("request %d: %d %s, want %d", n, status, body, want)
		}
	}
	if status, _, body := request(t, http.MethodPost, s.url+"/broadcast", other); status != http.StatusCreated {
		t.Errorf("another user: %d %s", status, body)
	}
	// A second token of the same user is the same user.
	again := bearer(s.token(t, auth.Identity{User: "fast", ID: "2", Publish: true}))
	if status, _, _ := request(t, http.MethodPost, s.url+"/broadcast", again); status != http.StatusTooManyRequests {
		t.Errorf("another token of the user: %d, want 429", status)
	}
	// Who may not publish has no quota to use up.
	if status, _, _ := request(t, http.MethodPost, s.url+"/broadcast", bearer(s.token(t, auth.Identity{User: "nobody"}))); status != http.StatusForbidden {
		t.Errorf("who may not: %d, want 403", status)
	}
}

func TestQuotaOverTime(t *testing.T) {
	q := newQuota(10, 5)
	now := time.Unix(0, 0)
	taken := 0
	for range 1000 { // 100 a second for 10 s
		if q.take("a", now) == 0 {
			taken++
		}
		now = now.Add(10 * time.Millisecond)
	}
	if taken < 103 || taken > 105 {
		t.Errorf("%d in 10 s, want the burst and 10 a second", taken)
	}
	for n := range 10 * minSweep {
		q.take(fmt.Sprint(n), now)
		now = now.Add(time.Second)
	}
	if len(q.users) > minSweep {
		t.Errorf("%d users are remembered who have all of their quota", len(q.users))
	}
	free := newQuota(0, 1)
	for range 3 {
		if wait := free.take("a", now); wait != 0 {
			t.Errorf("without a limit: wait %v", wait)
		}
	}
}

// TestIdempotencyKey sends notifications again with their keys, and counts the records.
func TestIdempotencyKey(t *testing.T) {
	s := startSecured(t, nil)
	broker := s.broker
	alice, bob := s.token(t, auth.Identity{User: "alice", Publish: true}), s.token(t, auth.Identity{User: "bob", Publish: true})
	post := func(token, key, path, value string) (int, string) {
		t.Helper()
		header := bearer(token)
		if key != "" {
			header.Set("Idempotency-Key", key)
		}
		status, _, body := callWith(t, http.MethodPost, s.url+path, value, header)
		return status, body
	}
	_, first := post(alice, `"one"`, "/broadcast", "a")
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
		status, body := post(test.token, test.key, test.path, test.value)
		if status != test.status || (body == first) != test.same {
			t.Errorf("%s: %d %s, want %d, and the first answer: %v (%s)", name, status, body, test.status, test.same, first)
		}
	}
	want := []string{"a/one", "a/one", "a/"} // alice's, bob's, and the one without a key
	if diff := cmp.Diff(counts(want), counts(records(t, broker, "announcements", len(want)))); diff != "" {
		t.Errorf("records with their keys (-want +got):\n%s", diff)
	}

	// While the first is under way, the second is told so; then it gets the first one's answer.
	held, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	broker.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		broker.KeepControl()
		once.Do(func() {
			close(held)
			broker.SleepControl(func() { <-release })
		})
		return nil, nil, false
	})
	answers := make(chan string, 1)
	go func() {
		_, body := post(alice, "slow", "/broadcast", "slow")
		answers <- body
	}()
	<-held
	if status, body := post(alice, "slow", "/broadcast", "slow"); status != http.StatusConflict {
		t.Errorf("while the first is under way: %d %s, want 409", status, body)
	}
	close(release)
	slow := <-answers
	if status, body := post(alice, "slow", "/broadcast", "slow"); status != http.StatusCreated || body != slow {
		t.Errorf("afterwards: %d %s, want %s", status, body, slow)
	}

	// What Kafka refuses is not remembered.
	broker.ControlKey(int16(kmsg.Produce), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		answer := kreq.ResponseKind().(*kmsg.ProduceResponse)
		topic := kmsg.NewProduceResponseTopic()
		topic.Topic = "announcements"
		partition := kmsg.NewProduceResponseTopicPartition()
		partition.ErrorCode = 29 // TOPIC_AUTHORIZATION_FAILED
		topic.Partitions = append(topic.Partitions, partition)
		answer.Topics = append(answer.Topics, topic)
		return answer, nil, true
	})
	if status, body := post(alice, "refused", "/broadcast", "refused"); status != http.StatusBadGateway {
		t.Errorf("Kafka refuses: %d %s, want 502", status, body)
	}
	if status, body := post(alice, "refused", "/broadcast", "refused"); status != http.StatusCreated {
		t.Errorf("tried again: %d %s, want 201", status, body)
	}
}

// records returns values and Idempotency-Keys of a topic's first partition.
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

// TestRepeatsAreBounded fills the memory for keys, and waits.
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
	if len(r.known) > maxRepeats || len(r.order) > maxRepeats {
		t.Errorf("%d keys are known, %d in order, want at most %d", len(r.known), len(r.order), maxRepeats)
	}
	if !ask(fmt.Sprint(3*maxRepeats-1)) || ask("0") {
		t.Error("the oldest keys are to be forgotten first")
	}
	now = now.Add(repeatWindow + 1)
	if ask(fmt.Sprint(3*maxRepeats - 1)) {
		t.Error("a key is known after the window")
	}
	if len(r.known) != 1 {
		t.Errorf("%d keys are known after the window, want one", len(r.known))
	}
	// One that failed and is tried again is not forgotten with its first try.
	failed, err := r.begin(repeatKey{"alice", "failed"}, [32]byte{}, now)
	if err != nil {
		t.Fatal(err)
	}
	r.end(failed, published{}, false)
	now = now.Add(repeatWindow / 2)
	ask("failed")
	now = now.Add(repeatWindow/2 + 1)
	if !ask("failed") {
		t.Error("a second try is forgotten when the first would be")
	}
}

// TestContentTypes wants what is none to be refused.
func TestContentTypes(t *testing.T) {
	srv := startServer(t)
	for contentType, want := range map[string]int{
		"":                                 http.StatusCreated,
		"application/json":                 http.StatusCreated,
		"text/plain; charset=utf-8":        http.StatusCreated,
		"application/cloudevents+json":     http.StatusCreated,
		"nonsense/":                        http.StatusUnsupportedMediaType,
		"text/plain; charset":              http.StatusUnsupportedMediaType,
		"text/plain, text/html":            http.StatusUnsupportedMediaType,
		"text/" + strings.Repeat("x", 255): http.StatusUnsupportedMediaType,
	} {
		header := http.Header{}
		if contentType != "" {
			header.Set("Content-Type", contentType)
		}
		status, _, body := callWith(t, http.MethodPost, "http://"+srv.publicListener.Addr().String()+"/broadcast", "x", header)
		var answer struct{ Error struct{ Message string } }
		if err := json.Unmarshal([]byte(body), &answer); err != nil || status != want || (answer.Error.Message == "") != (want == http.StatusCreated) {
			t.Errorf("%q: %d %s, want %d", contentType, status, body, want)
		}
	}
}
