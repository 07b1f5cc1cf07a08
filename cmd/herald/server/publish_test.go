package server

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/twmb/franz-go/pkg/kerr"

	"herald/consumer"
)

// TestPublishedEventID resumes from the event id of each answer. The stream sends the later records, and not the
// record itself, in every topic. It may repeat earlier records of other partitions, because the server had not
// read them yet when it answered. The server reads alice's own topic only while she has a stream, so the ids of
// the other topics lack it; a gap event reports that.
func TestPublishedEventID(t *testing.T) {
	srv := startServer(t)
	public := "http://" + srv.Addr().String()
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
	// The server does not read alice's own topic yet: the topic's position comes from the answer to the write.
	ownID, ok := srv.hub.IDAfter(srv.consumer.UserTopics("alice"), "alice", own)
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
		got, gaps := eventsUntil(t, public+"/events?user=alice&lastEventId="+test.id, nil, test.want...)
		if slices.Contains(got, test.value) || slices.Contains(got, "not hers") {
			t.Errorf("after %q: %q", name, got)
		}
		var wantGaps []string
		if test.id != ownID {
			wantGaps = []string{`{"source":"notifications.alice","reason":"unknown-id"}`}
		}
		if !slices.Equal(gaps, wantGaps) {
			t.Errorf("after %q: gaps %q, want %q", name, gaps, wantGaps)
		}
	}
}

// TestUserInThePath publishes to users with escaped names. The server unescapes the path once, and that user's
// stream gets the notification.
func TestUserInThePath(t *testing.T) {
	srv, _ := startServerWith(t, func(cfg *Config) { cfg.Consumer.Routes = []consumer.Route{{Topic: "notifications"}} })
	public := "http://" + srv.Addr().String()
	for path, user := range map[string]string{
		"alice":         "alice",
		"a@b":           "a@b",
		"a%40b":         "a@b",
		"a%2Fb":         "a/b",
		"a%20b":         "a b",
		"a+b":           "a+b",
		"50%25":         "50%",
		"%2541":         "%41",
		"%2541%40":      "%41@",
		"%C3%BC":        "ü",
		"%C3%BC%2F%21":  "ü/!",
		"%E6%97%A5%40a": "日@a",
	} {
		stream := public + "/events?user=" + url.QueryEscape(user) + "&lastEventId="
		var answer published
		for _, value := range []string{"first of " + user, user} {
			status, body := call(t, http.MethodPost, public+"/users/"+path+"/notifications", value)
			if err := json.Unmarshal([]byte(body), &answer); status != http.StatusCreated || err != nil {
				t.Fatalf("POST for %q: %d %s (%v)", path, status, body, err)
			}
			if value != user {
				stream += answer.EventID
			}
		}
		if got := dataUntil(t, stream, user); !slices.Equal(got, []string{user}) {
			t.Errorf("%s: the stream of %q has %q", path, user, got)
		}
	}
}

// TestPublishWhileKafkaIsDown wants an answer that says whether the record may have been written.
func TestPublishWhileKafkaIsDown(t *testing.T) {
	srv, broker := startServerWith(t, func(*Config) {})
	public := "http://" + srv.Addr().String()
	broker.Close()
	for deadline := time.Now().Add(20 * time.Second); ; {
		status, header, body := send(t, http.MethodPost, public+"/users/alice/notifications", "x", nil)
		switch {
		case status == http.StatusServiceUnavailable:
			if header.Get("Retry-After") == "" || !strings.Contains(body, "nothing was written") {
				t.Errorf("%v %s: want Retry-After and that nothing was written", header, body)
			}
			return
		case status != http.StatusBadGateway || !strings.Contains(body, "may or may not have been written"):
			t.Fatalf("%d %s", status, body)
		case time.Now().After(deadline):
			t.Fatalf("still %d %s", status, body)
		}
	}
}

// TestFailedPublish wants a status for each error of Kafka, and an answer that says which broker does not answer.
func TestFailedPublish(t *testing.T) {
	online, offline := startServer(t).consumer, newServer(t, newBroker(t), func(*Config) {}).consumer
	for _, test := range []struct {
		err      error
		consumer *consumer.Consumer
		want     int
		message  string
	}{
		{errNoRoute, online, http.StatusNotFound, "no topic takes"},
		{consumer.ErrNoTopic, online, http.StatusNotFound, "no topic takes"},
		{kerr.MessageTooLarge, online, http.StatusRequestEntityTooLarge, "no record of this size"},
		{&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, offline, http.StatusServiceUnavailable, "kafka does not answer: nothing was written"},
		{&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, online, http.StatusServiceUnavailable, "kafka answers, but not the broker that leads the record's partition: nothing was written"},
		{kerr.LeaderNotAvailable, online, http.StatusServiceUnavailable, "not the broker that leads"},
		{&net.OpError{Op: "read", Err: syscall.ECONNRESET}, online, http.StatusBadGateway, "may or may not have been written"},
		{context.DeadlineExceeded, online, http.StatusBadGateway, "may or may not have been written"},
		{kerr.NotEnoughReplicasAfterAppend, online, http.StatusBadGateway, "may or may not have been written"},
	} {
		p := &publisher{consumer: test.consumer, publications: &publications{published: newPublishedCounter()}}
		c := echo.New().NewContext(httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", nil), httptest.NewRecorder())
		answer, ok := errors.AsType[*refusal](p.recordFailure(c, fmt.Errorf("produce to t/0: %w", test.err)))
		if !ok || answer.status != test.want || !strings.Contains(answer.message, test.message) {
			t.Errorf("%v: %v, want %d and %s", test.err, answer, test.want, test.message)
		}
	}
}

// TestBodiesAreBounded sends headers without their bodies, with a declared and with an undeclared length, until
// the memory for bodies is used up. The server then refuses large bodies and accepts small ones.
func TestBodiesAreBounded(t *testing.T) {
	const size = 40 << 20 // the memory for bodies holds one, not two
	srv := newServer(t, newBroker(t), func(s *Config) { s.PublishMaxBytes = size })
	srv.public.ReadTimeout = time.Minute // the slow body is not given up before the test is done with it
	run(t, srv)
	address := srv.Addr().String()
	large := func() (int, http.Header, string) {
		t.Helper()
		// The client sends the body only when the server asks for it. Otherwise an unread body may reset the
		// connection before the client has read the answer.
		return send(t, http.MethodPost, "http://"+address+"/broadcast", strings.Repeat("x", 30<<20), http.Header{"Expect": {"100-continue"}})
	}
	for name, header := range map[string]string{"declared": fmt.Sprintf("Content-Length: %d", size), "undeclared": "Transfer-Encoding: chunked"} {
		slow := dial(t, address)
		if _, err := fmt.Fprintf(slow, "POST /broadcast HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n%s\r\n\r\n", header); err != nil {
			t.Fatal(err)
		}
		// The server reserves the memory before it asks for the body.
		if line, err := bufio.NewReader(slow).ReadString('\n'); !strings.HasPrefix(line, "HTTP/1.1 100 ") {
			t.Fatalf("%s: %q, %v; want the server to ask for the body", name, line, err)
		}
		if status, h, body := large(); status != http.StatusServiceUnavailable || h.Get("Retry-After") == "" || !strings.Contains(body, "nothing was written") {
			t.Errorf("%s: %d %v %s, want %d", name, status, h, body, http.StatusServiceUnavailable)
		}
		if status, body := call(t, http.MethodPost, "http://"+address+"/broadcast", "small"); status != http.StatusCreated {
			t.Errorf("%s: a small body: %d %s, want it accepted", name, status, body)
		}
		_ = slow.Close()
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			status, _, body := large()
			if status == http.StatusRequestEntityTooLarge { // Kafka's answer: the topic refuses it
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: after its connection closed: %d %s, want its memory free", name, status, body)
			}
		}
	}
}
