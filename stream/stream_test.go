package stream

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/labstack/echo/v4"
	"github.com/twmb/franz-go/pkg/kfake"

	"herald/consumer"
)

type event struct{ id, kind, data string }

// client reads one stream.
type client struct {
	t    *testing.T
	scan *bufio.Scanner
	res  *http.Response
	last string
}

func open(t *testing.T, url, lastID string) *client {
	t.Helper()
	return openWith(t, http.DefaultClient, url, lastID)
}

func openWith(t *testing.T, how *http.Client, url, lastID string) *client {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Last-Event-ID", lastID)
	res, err := how.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = res.Body.Close() })
	scan := bufio.NewScanner(res.Body)
	scan.Buffer(nil, 4<<20)
	return &client{t: t, scan: scan, res: res, last: lastID}
}

// next returns the next event. It skips comments and retry fields.
func (c *client) next() event {
	c.t.Helper()
	var e event
	var data []string
	for c.scan.Scan() {
		name, value, _ := strings.Cut(c.scan.Text(), ": ")
		switch name {
		case "id":
			e.id, c.last = value, value
		case "event":
			e.kind = value
		case "data":
			data = append(data, value)
		case "":
			if data != nil {
				e.data = strings.Join(data, "\n")
				return e
			}
		}
	}
	c.t.Fatalf("stream ended: %v", c.scan.Err())
	return e
}

// nextButCheckpoint returns the next event that is not a checkpoint. On a slow machine a stream may get a second checkpoint:
// the first does not say that replay has met live, if Kafka's last answer is old by then.
func (c *client) nextButCheckpoint() event {
	c.t.Helper()
	e := c.next()
	for e.kind == TypeCheckpoint {
		e = c.next()
	}
	return e
}

// site is a handler with a server, a consumer and a broker.
type site struct {
	*httptest.Server
	url      string // the streams' address, without the user's name
	hub      *Hub
	handler  *Handler
	consumer *consumer.Consumer
	producer *consumer.Producer
}

func serve(t *testing.T) (url string, producer *consumer.Producer) {
	t.Helper()
	s := serveWith(t, Config{}, (*httptest.Server).Start)
	return s.url, s.producer
}

// serveWith fills in the rest of cfg and serves it. The query parameter user names the user.
func serveWith(t *testing.T, cfg Config, start func(*httptest.Server), middleware ...echo.MiddlewareFunc) *site {
	t.Helper()
	broker, routes := startBrokerOfEachKind(t)
	return serveOn(t, broker, cfg, start, routes, middleware...)
}

// startBrokerOfEachKind starts a broker with topics of each kind, and returns their routes.
func startBrokerOfEachKind(t *testing.T) (*kfake.Cluster, []consumer.Route) {
	t.Helper()
	broker := startBroker(t, kfake.SeedTopics(3, "shared", "all"), kfake.AllowAutoTopicCreation(), kfake.DefaultNumPartitions(1))
	return broker, []consumer.Route{{Topic: "shared"}, {Topic: "all", Kind: consumer.Broadcast}, {Topic: "own.{user}", Kind: consumer.PerUser}}
}

// startBroker starts an in-process broker.
func startBroker(t *testing.T, options ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	broker, err := kfake.NewCluster(append(options, kfake.NumBrokers(1))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Close)
	return broker
}

func serveOn(t *testing.T, broker *kfake.Cluster, cfg Config, start func(*httptest.Server), routes []consumer.Route, middleware ...echo.MiddlewareFunc) *site {
	t.Helper()
	return serveConsumer(t, broker, cfg, consumer.Config{Routes: routes}, start, middleware...)
}

// serveConsumer fills in the rest of both configurations.
func serveConsumer(t *testing.T, broker *kfake.Cluster, cfg Config, of consumer.Config, start func(*httptest.Server), middleware ...echo.MiddlewareFunc) *site {
	t.Helper()
	s := &site{hub: NewHub("event-type", nil, "trace"), producer: consumer.NewProducer(broker.ListenAddrs(), nil, nil)}
	t.Cleanup(s.producer.Close)
	of.Brokers, of.Group, of.Replica, of.Logger = broker.ListenAddrs(), "g", "r", slog.New(slog.NewTextHandler(t.Output(), nil))
	c, err := consumer.New(of, s.hub)
	if err != nil {
		t.Fatal(err)
	}
	s.consumer = c
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	cfg.Hub, cfg.Kafka = s.hub, c
	if cfg.Viewer == nil {
		cfg.Viewer = func(c echo.Context) (Viewer, error) { return Viewer{User: c.QueryParam("user")}, nil }
	}
	s.handler = NewHandler(cfg)
	e := echo.New()
	e.Use(middleware...)
	e.GET("/events", s.handler.Events)
	s.Server = httptest.NewUnstartedServer(e)
	start(s.Server)
	s.url = s.URL + "/events?user="
	t.Cleanup(func() {
		s.drain(t, 0)
		s.Close()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return s
}

func (s *site) drain(t *testing.T, window time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Second)
	defer cancel()
	s.handler.Drain(ctx, window)
}

func put(t *testing.T, p *consumer.Producer, topic, key, value string, headers ...consumer.Header) {
	t.Helper()
	if _, err := p.Produce(t.Context(), consumer.Message{Topic: topic, Key: []byte(key), Value: []byte(value), Headers: headers}); err != nil {
		t.Fatal(err)
	}
}

// TestResumeAtEveryEvent cuts a stream after each of its events while records of several users arrive. Each of
// the user's records must come once and in order.
func TestResumeAtEveryEvent(t *testing.T) {
	url, producer := serve(t)
	c := open(t, url+"alice", "")
	if e := c.next(); e.kind != TypeCheckpoint || e.id == "" {
		t.Fatalf("the first event is %+v, want a checkpoint with an id", e)
	}
	const count = 40
	var want, got []string
	for i := range count {
		put(t, producer, "shared", "bob", "bob's")
		put(t, producer, "shared", "alice", fmt.Sprint(i))
		want = append(want, fmt.Sprint(i))
		if i%3 != 0 {
			continue // let several records wait for the reconnect
		}
		for len(got) <= i {
			e := c.next()
			if e.kind == TypeCheckpoint {
				continue
			}
			got = append(got, e.data)
			_ = c.res.Body.Close()
			c = open(t, url+"alice", c.last)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestEveryKindOfTopic(t *testing.T) {
	url, producer := serve(t)
	alice, bob := open(t, url+"alice", ""), open(t, url+"bob", "")
	alice.next()
	bob.next()
	put(t, producer, "own.alice", "", "first ever")
	if e := alice.nextButCheckpoint(); e.data != "first ever" {
		t.Errorf("alice got %+v", e)
	}
	put(t, producer, "all", "", "for all", consumer.Header{Key: "event-type", Value: []byte("news")})
	for _, c := range []*client{alice, bob} {
		if e := c.nextButCheckpoint(); e.data != "for all" || e.kind != "news" {
			t.Errorf("got %+v, want the broadcast as news", e)
		}
	}
	put(t, producer, "shared", "bob", "a\r\nb", consumer.Header{Key: "event-type", Value: []byte("end")})
	if e := bob.nextButCheckpoint(); e.data != "a\nb" || e.kind != "" {
		t.Errorf("bob got %+v, want two lines of type message", e)
	}
}

// TestResumeAcrossTheFirstRecordEver opens a stream before the user's topic exists. Ids after the first record
// must name the topic's incarnation. Otherwise a resume would take the topic for one created again.
func TestResumeAcrossTheFirstRecordEver(t *testing.T) {
	url, producer := serve(t)
	c := open(t, url+"alice", "")
	c.next()
	put(t, producer, "own.alice", "", "first")
	if e := c.nextButCheckpoint(); e.data != "first" {
		t.Fatalf("got %+v", e)
	}
	_ = c.res.Body.Close()
	put(t, producer, "own.alice", "", "second")
	c = open(t, url+"alice", c.last)
	if e := c.next(); e.kind != TypeCheckpoint {
		t.Errorf("the resumed stream begins with %+v, want a checkpoint", e)
	}
	if e := c.nextButCheckpoint(); e.data != "second" {
		t.Errorf("got %+v, want the second record", e)
	}
}

// TestUnknownIDIsTold resumes from text that is not an id, and from ids that do not name a topic of the stream.
// A gap before the checkpoint must report it, and the stream must begin now. If the log does not hold an id's
// offset, the stream must begin with the records that the log retains.
func TestUnknownIDIsTold(t *testing.T) {
	const (
		none    = `{"reason":"unknown-id"}`
		unknown = `{"source":%q,"reason":"unknown-id"}`
	)
	for bad, want := range map[string][]string{ // the capital words stand for parts of the id before x
		"nonsense":                   {none},
		"1~":                         {none},
		"1":                          {none},
		"1~000000000000.0-5":         {none}, // names other topics
		"1ALLOWN":                    {fmt.Sprintf(unknown, "shared")},
		"1ALLSHARED":                 {fmt.Sprintf(unknown, "own.alice"), "x"},
		"1SHARED":                    {fmt.Sprintf(unknown, "all"), fmt.Sprintf(unknown, "own.alice"), "x"},
		"1ALLOWNSHARED":              {"x"},
		"1ALLOWNSHARED~000000.0-5":   {none},
		"1~0000000000000-5":          {none},
		"1ALLOWN~TAGvvvvvv":          {`{"source":"shared","reason":"recreated"}`, "x"},
		"1ALLOWNSHARED.1-999999":     {`{"source":"shared","partition":1,"from":1000000,"to":0,"reason":"unknown-id"}`, "x"},
		"1ALLOWNSHARED~000000000000": {"x"}, // names a topic that has left the routes
		"?lastEventId=%zz":           {none},
		"?lastEventId=a;b":           {none},
		"?lastEventId=1ALLOWN%zz":    {none},
		"?lastEventId=%&lastEventId=1ALLOWNSHARED": {"x"},
	} {
		url, producer := serve(t)
		first := open(t, url+"alice", "")
		parts := strings.Split(first.next().id, "~") // in the order of the topics' names: all, own.alice, shared
		put(t, producer, "shared", "alice", "x")
		first.nextButCheckpoint()
		bad = strings.NewReplacer("ALL", "~"+parts[1], "OWN", "~"+parts[2], "SHARED", "~"+parts[3], "TAG", tag("shared")).Replace(bad)
		c := openBad(t, url, bad)
		var got []string
		for len(got) < len(want) {
			if e := c.next(); e.kind != TypeCheckpoint {
				got = append(got, e.data)
			}
		}
		put(t, producer, "all", "", "now")
		if diff := cmp.Diff(append(want, "now"), append(got, c.until("now")...)); diff != "" {
			t.Errorf("id %q: %s", bad, diff)
		}
		_ = c.res.Body.Close()
		again := open(t, url+"alice", c.last)
		put(t, producer, "all", "", "later")
		if got := again.until("later"); len(got) != 1 {
			t.Errorf("id %q, resumed behind the gap: %q", bad, got)
		}
	}
}

// openBad opens a stream with an id that may be bad, or with a query.
func openBad(t *testing.T, url, bad string) *client {
	t.Helper()
	if query, ok := strings.CutPrefix(bad, "?"); ok {
		return open(t, url+"alice&"+query, "")
	}
	return open(t, url+"alice", bad)
}

// TestIDAfterNamesWhatIsNotThere makes an id while the user's topic does not exist. The id must name the topic
// as absent, so that a later stream does not report the topic as unknown.
func TestIDAfterNamesWhatIsNotThere(t *testing.T) {
	s := serveWith(t, Config{}, (*httptest.Server).Start)
	open(t, s.url+"alice", "").next()
	written, err := s.producer.Produce(t.Context(), consumer.Message{Topic: "shared", Key: []byte("alice"), Value: []byte("x")})
	if err != nil {
		t.Fatal(err)
	}
	id, ok := s.hub.IDAfter(s.consumer.UserTopics("alice"), "alice", written)
	if !ok {
		t.Fatal("no id")
	}
	put(t, s.producer, "own.alice", "", "first ever")
	if got := open(t, s.url+"alice", id).until("first ever"); len(got) != 1 {
		t.Errorf("got %q", got)
	}
}
