package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/twmb/franz-go/pkg/kfake"

	"herald/auth"
	"herald/consumer"
)

// startServer runs a server of devRoutes on an in-process broker, without authentication.
func startServer(t *testing.T) *server {
	t.Helper()
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.AllowAutoTopicCreation(), kfake.DefaultNumPartitions(1),
		kfake.SeedTopics(3, "notifications"), kfake.SeedTopics(1, "announcements"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Close)
	var flags serverFlags
	parser, err := kong.New(&flags)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse([]string{"--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--log-level=error"}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	srv, err := newServer(ctx, settings{
		serverFlags: flags,
		Consumer:    consumer.Config{Brokers: broker.ListenAddrs(), Group: "test", Replica: "one", Routes: devRoutes},
		Auth:        auth.Insecure{}, Publish: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- srv.run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	for deadline := time.Now().Add(20 * time.Second); srv.consumer.Ready() != nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(srv.consumer.Ready())
		}
	}
	return srv
}

// call sends a request and returns the status and the body.
func call(t *testing.T, method, url, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

// dataUntil reads a stream until it has had all of want, and returns the data of its events but for
// Herald's own.
func dataUntil(t *testing.T, url string, want ...string) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var got []string
	events := newEventReader(bufio.NewReader(res.Body), "")
	for len(want) > 0 {
		e, err := events.next()
		if err != nil {
			t.Fatalf("want %q after %q: %v", want, got, err)
		}
		switch e.Type {
		case "checkpoint":
		case "gap", "end":
			t.Fatalf("%s %s after %q", e.Type, e.Data, got)
		default:
			got = append(got, e.Data)
			want = slices.DeleteFunc(want, func(data string) bool { return data == e.Data })
		}
	}
	return got
}

// TestPublishedEventID resumes from the event id of each answer and wants what came after it, not
// the record itself, whichever topic took it. What came before it in another partition may come
// again: the server had not read it yet.
func TestPublishedEventID(t *testing.T) {
	srv := startServer(t)
	public := "http://" + srv.publicListener.Addr().String()
	post := func(path, value string) published {
		t.Helper()
		status, body := call(t, http.MethodPost, public+path, value)
		var answer published
		if err := json.Unmarshal([]byte(body), &answer); status != http.StatusCreated || err != nil || answer.EventID == "" {
			t.Fatalf("POST %s: %d %s, want 201 with an event id (%v)", path, status, body, err)
		}
		return answer
	}
	first := post("/users/alice/notifications", "first")
	all := post("/broadcast", "all")
	post("/users/bob/notifications", "not hers")
	own, err := srv.producer.Produce(t.Context(), consumer.Message{Topic: "notifications.alice", Value: []byte("own")})
	if err != nil {
		t.Fatal(err)
	}
	// Her own topic is not read by now: its position comes from the answer to the write.
	ownID, ok := srv.streams.Hub().IDAfter(srv.consumer.Topics("alice"), own)
	if !ok {
		t.Fatal("no id for a record of a topic with one partition")
	}
	last := post("/users/alice/notifications", "last")
	post("/broadcast", "end")
	for name, test := range map[string]struct {
		id, value string
		want      []string
	}{
		"first": {first.EventID, "first", []string{"all", "last", "end"}},
		"all":   {all.EventID, "all", []string{"last", "end"}},
		"own":   {ownID, "own", []string{"last", "end"}},
		"last":  {last.EventID, "last", []string{"end"}},
	} {
		got := dataUntil(t, public+"/events?user=alice&lastEventId="+test.id, test.want...)
		if slices.Contains(got, test.value) || slices.Contains(got, "not hers") {
			t.Errorf("behind %q: %q", name, got)
		}
	}
}

// TestErrorsHaveOneShape wants JSON with a message for whatever goes wrong.
func TestErrorsHaveOneShape(t *testing.T) {
	srv := startServer(t)
	public := "http://" + srv.publicListener.Addr().String()
	for _, test := range []struct {
		method, path string
		body         string
		status       int
	}{
		{http.MethodGet, "/events", "", http.StatusBadRequest},
		{http.MethodGet, "/events?user=a%00b", "", http.StatusBadRequest},
		{http.MethodGet, "/events?user=a/b", "", http.StatusForbidden}, // cannot be a part of a topic's name
		{http.MethodGet, "/nowhere", "", http.StatusNotFound},
		{http.MethodDelete, "/events", "", http.StatusMethodNotAllowed},
		{http.MethodPost, "/broadcast?type=checkpoint", "x", http.StatusBadRequest},
		{http.MethodPost, "/broadcast", strings.Repeat("x", maxValue+1), http.StatusRequestEntityTooLarge},
	} {
		status, body := call(t, test.method, public+test.path, test.body)
		var answer struct {
			Error struct{ Code, Message string }
		}
		if err := json.Unmarshal([]byte(body), &answer); err != nil || status != test.status || answer.Error.Message == "" {
			t.Errorf("%s %s: %d %s, want %d and a message in JSON", test.method, test.path, status, body, test.status)
		}
	}
}

// TestReadmeListsEveryMetric keeps the README's list of metrics complete, and true to the help text.
func TestReadmeListsEveryMetric(t *testing.T) {
	srv := startServer(t)
	public := "http://" + srv.publicListener.Addr().String()
	call(t, http.MethodPost, public+"/users/alice/notifications", "x") // so that labels have values
	call(t, http.MethodGet, public+"/events?user=", "")
	_, text := call(t, http.MethodGet, "http://"+srv.adminListener.Addr().String()+"/metrics", "")
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(line, "# HELP herald_")
		if !ok {
			continue
		}
		found++
		name, help, _ := strings.Cut(strings.TrimSpace(rest), " ")
		if row := "| `herald_" + name + "` | " + help + " |"; !strings.Contains(string(readme), row) {
			t.Errorf("README.md lacks the row %q", row)
		}
	}
	if found < 10 {
		t.Errorf("only %d metrics in\n%s", found, text)
	}
}
