package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alecthomas/kong"
	"github.com/labstack/echo/v4"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"

	"herald/auth"
	"herald/cmd/herald/tail"
	"herald/consumer"
	"herald/stream"
)

// startServer runs a server of devRoutes on an in-process broker, without authentication.
func startServer(t *testing.T) *server {
	t.Helper()
	srv, _ := startServerOn(t, devRoutes, nil)
	return srv
}

// testReadTimeout is short for TestSlowRequests and TestSlowHeaders.
const testReadTimeout = 2 * time.Second

// startServerOn runs a server of the routes. extend may be nil.
func startServerOn(t *testing.T, routes []consumer.Route, extend func(*echo.Echo, *publisher)) (*server, *kfake.Cluster) {
	t.Helper()
	return startServerWith(t, func(s *settings) { s.Consumer.Routes, s.Extend = routes, extend })
}

// startServerWith runs a server of devRoutes, without authentication, unless change says otherwise.
func startServerWith(t *testing.T, change func(*settings)) (*server, *kfake.Cluster) {
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
	set := settings{
		serverFlags: flags,
		Consumer:    consumer.Config{Brokers: broker.ListenAddrs(), Group: "test", Replica: "one", Routes: devRoutes},
		access:      access{Auth: auth.Insecure{}}, publishFlags: publishFlags{EnablePublish: true, PublishMaxBytes: 1 << 20},
	}
	change(&set)
	srv, err := newServer(ctx, set)
	if err != nil {
		t.Fatal(err)
	}
	srv.public.ReadTimeout, srv.public.ReadHeaderTimeout = testReadTimeout, testReadTimeout
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
	return srv, broker
}

// call sends a request and returns the status and the body.
func call(t *testing.T, method, url, body string) (int, string) {
	t.Helper()
	status, _, text := callWith(t, method, url, body, nil)
	return status, text
}

// callWith is call with headers.
func callWith(t *testing.T, method, url, body string, header http.Header) (int, http.Header, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(req.Header, header)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, res.Header, string(text)
}

// dataUntil reads a stream until it has had all of want, and returns the data of its events but for
// Herald's own.
func dataUntil(t *testing.T, url string, want ...string) []string {
	t.Helper()
	return dataUntilWith(t, url, nil, want...)
}

// dataUntilWith is dataUntil with headers.
func dataUntilWith(t *testing.T, url string, header http.Header, want ...string) []string {
	t.Helper()
	got, gaps := eventsUntil(t, url, header, want...)
	if len(gaps) > 0 {
		t.Fatalf("gaps %q beside %q", gaps, got)
	}
	return got
}

// eventsUntil reads a stream until it has had all of want, and returns the data of its events and gaps.
func eventsUntil(t *testing.T, url string, header http.Header, want ...string) (got, gaps []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	events := openEvents(ctx, t, url, header)
	for len(want) > 0 {
		e, err := events.Next()
		if err != nil {
			t.Fatalf("want %q after %q: %v", want, got, err)
		}
		switch e.Type {
		case "checkpoint":
		case "gap":
			gaps = append(gaps, e.Data)
		case "end":
			t.Fatalf("%s %s after %q", e.Type, e.Data, got)
		default:
			got = append(got, e.Data)
			want = slices.DeleteFunc(want, func(data string) bool { return data == e.Data })
		}
	}
	return got, gaps
}

// TestPublishedEventID resumes from the event id of each answer and wants what came after it, not
// the record itself, whichever topic took it. What came before it in another partition may come
// again: the server had not read it yet. Of her own topic, which is read while she has a stream only, the
// other topics' ids say nothing, which is told.
func TestPublishedEventID(t *testing.T) {
	var hub *stream.Hub
	srv, _ := startServerOn(t, devRoutes, func(_ *echo.Echo, p *publisher) { hub = p.hub })
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
	ownID, ok := hub.IDAfter(srv.consumer.UserTopics("alice"), "alice", own)
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
			t.Errorf("behind %q: %q", name, got)
		}
		var told []string
		if test.id != ownID {
			told = []string{`{"source":"notifications.alice","reason":"unknown-id"}`}
		}
		if !slices.Equal(gaps, told) {
			t.Errorf("behind %q: gaps %q, want %q", name, gaps, told)
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
		{http.MethodPost, "/users//notifications", "x", http.StatusBadRequest},            // is not for everyone
		{http.MethodPost, "/users/a%00b/notifications", "x", http.StatusBadRequest},       // can be no user's name
		{http.MethodPost, "/users/a%2Fb/notifications", "x", http.StatusBadRequest},       // can have no stream
		{http.MethodPost, "/users/a%40b/notifications?type=", "x", http.StatusBadRequest}, // likewise
		{http.MethodGet, "/events", "", http.StatusBadRequest},
		{http.MethodGet, "/events?user=a%00b", "", http.StatusBadRequest},
		{http.MethodGet, "/events?user=a/b", "", http.StatusForbidden}, // cannot be a part of a topic's name
		{http.MethodGet, "/nowhere", "", http.StatusNotFound},
		{http.MethodDelete, "/events", "", http.StatusMethodNotAllowed},
		{http.MethodPost, "/broadcast?type=checkpoint", "x", http.StatusBadRequest},
		{http.MethodPost, "/broadcast", strings.Repeat("x", 1<<20+1), http.StatusRequestEntityTooLarge},
	} {
		status, body := call(t, test.method, public+test.path, test.body)
		var answer struct {
			Error struct{ Code, Message string }
		}
		if err := json.Unmarshal([]byte(body), &answer); err != nil || status != test.status || answer.Error.Message == "" {
			t.Errorf("%s %s: %d %s, want %d and a message in JSON", test.method, test.path, status, body, test.status)
		}
	}
	status, header, body := callWith(t, http.MethodPost, public+"/broadcast", "x", http.Header{"Origin": {"http://elsewhere.example"}, "Sec-Fetch-Site": {"cross-site"}})
	if !strings.Contains(body, `"code":"Forbidden"`) || status != http.StatusForbidden || !strings.HasPrefix(header.Get("Content-Type"), "application/json") {
		t.Errorf("POST from another origin: %d %s", status, body)
	}
	// Nothing of all that has been written.
	status, body = call(t, http.MethodPost, public+"/broadcast", "first")
	var answer published
	if err := json.Unmarshal([]byte(body), &answer); status != http.StatusCreated || err != nil || answer.Offset != 0 {
		t.Errorf("POST /broadcast: %d %s, want the topic's first record (%v)", status, body, err)
	}
}

// TestUserInThePath wants the record key to be what was escaped, once.
func TestUserInThePath(t *testing.T) {
	srv, _ := startServerOn(t, []consumer.Route{{Topic: "notifications"}}, nil)
	public := "http://" + srv.publicListener.Addr().String()
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

// TestPublishWhileKafkaIsAway wants an answer that says whether something may have been written.
func TestPublishWhileKafkaIsAway(t *testing.T) {
	srv, broker := startServerOn(t, devRoutes, nil)
	public := "http://" + srv.publicListener.Addr().String()
	broker.Close()
	for deadline := time.Now().Add(20 * time.Second); ; {
		status, header, body := callWith(t, http.MethodPost, public+"/users/alice/notifications", "x", nil)
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

// TestFailedPublish wants what Kafka said as a status, with fixed text.
func TestFailedPublish(t *testing.T) {
	p := &publisher{published: counterVec("x", "x", "result")}
	for _, test := range []struct {
		err  error
		want int
	}{
		{errNoRoute, http.StatusNotFound},
		{consumer.ErrNoTopic, http.StatusNotFound},
		{kerr.MessageTooLarge, http.StatusRequestEntityTooLarge},
		{&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, http.StatusServiceUnavailable},
		{&net.OpError{Op: "read", Err: syscall.ECONNRESET}, http.StatusBadGateway},
		{context.DeadlineExceeded, http.StatusBadGateway},
		{kerr.NotEnoughReplicasAfterAppend, http.StatusBadGateway},
	} {
		c := echo.New().NewContext(httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", nil), httptest.NewRecorder())
		answer, ok := errors.AsType[*echo.HTTPError](p.failed(c, fmt.Errorf("produce to t/0: %w", test.err)))
		if !ok || answer.Code != test.want {
			t.Errorf("%v: %v, want %d", test.err, answer, test.want)
		}
	}
}

// TestRefusalsAreLogged wants the reason, once a second, and never the token.
func TestRefusalsAreLogged(t *testing.T) {
	keys, err := auth.Secret([]byte(strings.Repeat("s", 32)))
	if err != nil {
		t.Fatal(err)
	}
	j, err := auth.NewJWT(auth.JWTConfig{Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	signer, err := auth.NewSecretSigner([]byte(strings.Repeat("s", 32)))
	if err != nil {
		t.Fatal(err)
	}
	old, err := signer.Sign(auth.Identity{User: "alice", IssuedAt: time.Unix(0, 0), Expires: time.Unix(1, 0)})
	if err != nil {
		t.Fatal(err)
	}
	e := echo.New()
	for token, want := range map[string]string{
		"":               "no token",
		"nonsense":       "invalid token",
		old:              "token expired",
		old[:len(old)-9]: "signature",
	} {
		synctest.Test(t, func(t *testing.T) {
			var log bytes.Buffer
			front := &frontDoor{auth: j, refused: counterVec("x", "x", "reason"), log: slog.New(slog.NewTextHandler(&log, nil))}
			refuse := func() {
				r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/events", nil)
				if token != "" {
					r.Header.Set("Authorization", "Bearer "+token)
				}
				w := httptest.NewRecorder()
				if _, err := front.identify(e.NewContext(r, w)); err == nil || !strings.HasPrefix(w.Header().Get("WWW-Authenticate"), "Bearer") {
					t.Errorf("%v, %v: want a challenge", err, w.Header())
				}
			}
			for range 100 {
				refuse()
			}
			if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, want) || !strings.Contains(got, "level=INFO") || token != "" && strings.Contains(got, token) {
				t.Errorf("100 times %q logs %q, want one line with %q", token, got, want)
			}
			time.Sleep(time.Second)
			refuse()
			if got := strings.Count(log.String(), "\n"); got != 2 {
				t.Errorf("%d lines after another second, want 2", got)
			}
		})
	}
}

// TestRefusedUserIsLogged wants a user who can have no stream in the log, with the address that a
// trusted proxy names.
func TestRefusedUserIsLogged(t *testing.T) {
	log := new(logBuffer)
	srv, _ := startServerWith(t, func(s *settings) {
		s.Log, s.TrustedProxies = slog.New(slog.NewTextHandler(log, nil)), []string{"127.0.0.0/8"}
	})
	url := "http://" + srv.publicListener.Addr().String() + "/events?user=a/b"
	if status, _, body := callWith(t, http.MethodGet, url, "", http.Header{"X-Forwarded-For": {"192.0.2.7"}}); status != http.StatusForbidden {
		t.Errorf("%d %s, want 403", status, body)
	}
	if text := log.String(); !strings.Contains(text, "request refused") || !strings.Contains(text, "remote=192.0.2.7") {
		t.Errorf("no such line in\n%s", text)
	}
}

// TestNetHTTPLogIsBounded has net/http say much at once.
func TestNetHTTPLogIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var text bytes.Buffer
		log := httpServer(nil, slog.New(slog.NewTextHandler(&text, nil))).ErrorLog
		for range 100 {
			log.Print("http: TLS handshake error from somebody")
			log.Print("http2: server: error reading preface from somebody")
		}
		if got := text.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "preface") {
			t.Errorf("200 lines make %q, want one, and no handshake", got)
		}
		time.Sleep(time.Second)
		if log.Print("another"); strings.Count(text.String(), "\n") != 2 {
			t.Errorf("after a second: %q, want another line", &text)
		}
	})
}

// TestOperatingListsEveryMetric compares the metrics that a server exports with the table of
// deploy/OPERATING.md: each has a row, which has its help text.
func TestOperatingListsEveryMetric(t *testing.T) {
	srv := startServer(t)
	public := "http://" + srv.publicListener.Addr().String()
	call(t, http.MethodPost, public+"/users/alice/notifications", "x") // so that labels of others have values
	_, text := call(t, http.MethodGet, "http://"+srv.adminListener.Addr().String()+"/metrics", "")
	for _, line := range []string{`herald_http_refusals_total{reason="origin"} 0`, `herald_http_published_total{result="refused"} 0`} {
		if !strings.Contains(text, line) {
			t.Errorf("no %s from the start", line)
		}
	}
	wantMetricsInOperating(t, text)
}

// wantMetricsInOperating wants a row of deploy/OPERATING.md for each metric of the text.
func wantMetricsInOperating(t *testing.T, text string) {
	t.Helper()
	document, err := os.ReadFile("../../deploy/OPERATING.md")
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
		if row := "| `herald_" + name + "` | " + help + " |"; !strings.Contains(string(document), row) {
			t.Errorf("deploy/OPERATING.md lacks the row %q", row)
		}
	}
	if found < 10 {
		t.Errorf("only %d metrics in\n%s", found, text)
	}
}

// TestSlowRequests wants a request that does not end to be given up, and a stream to outlive the
// time that requests have.
func TestSlowRequests(t *testing.T) {
	srv := startServer(t)
	address := srv.publicListener.Addr().String()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // a test's
	if _, err := io.WriteString(conn, "POST /broadcast HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nab"); err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/events?user=alice", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if err := conn.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if answer, err := io.ReadAll(conn); err != nil || strings.Contains(string(answer), "201") {
		t.Errorf("a body that does not end: %q, %v, want it refused and the connection closed", answer, err)
	}
	events := tail.NewEventReader(bufio.NewReader(res.Body), "")
	call(t, http.MethodPost, "http://"+address+"/users/alice/notifications", "still there")
	for {
		e, err := events.Next()
		if err != nil {
			t.Fatalf("the stream ended with the time for requests: %v", err)
		}
		if e.Data == "still there" {
			return
		}
	}
}
