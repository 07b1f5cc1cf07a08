package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"herald/consumer"
	"herald/consumer/batch"
)

// poller polls again and again, each time with the id of the answer before, as a client without EventSource does.
type poller struct {
	t       *testing.T
	lastID  string
	ignore  func(data string) bool // the test did not write this record; nil: it has written all
	records []string
	gaps    int
}

// poll sends one request and takes the events of the answer. It stops to read after that many bytes; -1: it does not.
func (p *poller) poll(url string, bytes int) {
	p.t.Helper()
	req, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, url, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("Last-Event-ID", p.lastID)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	body := io.Reader(res.Body)
	if bytes >= 0 {
		body = io.LimitReader(body, int64(bytes))
	}
	text, err := io.ReadAll(body)
	_ = res.Body.Close()
	if err != nil || res.StatusCode != http.StatusOK {
		p.t.Fatalf("%s: %s, %v after %q", url, res.Status, err, text)
	}
	got := parse(text)
	for _, e := range got.events {
		p.lastID = e.id
		switch e.kind {
		case TypeMessage:
			if p.ignore != nil && p.ignore(e.data) {
				continue
			}
			p.records = append(p.records, e.data)
		case TypeGap:
			p.gaps++
		case TypeEnd:
			p.t.Errorf("%s: ends with %s", url, e.data)
		}
	}
	if last := len(got.events) - 1; bytes < 0 && (last < 0 || got.events[last].kind != TypeCheckpoint) {
		p.t.Errorf("%s: the last event is not a checkpoint: %q", url, text)
	}
}

// isLive reports whether the answer says that there is nothing more.
func (p parsed) isLive() bool {
	last := len(p.events) - 1
	return last >= 0 && p.events[last].kind == TypeCheckpoint && strings.Contains(p.events[last].data, `"live":true`)
}

// TestPollsAreExact polls while records of several topics and users arrive: with limits, with answers that are cut,
// and on a replica that restarts. Each record must come once, and in the order of its topic.
func TestPollsAreExact(t *testing.T) {
	broker, routes := startBrokerOfEachKind(t)
	first, second := serveOn(t, broker, Config{}, (*httptest.Server).Start, routes), serveOn(t, broker, Config{}, (*httptest.Server).Start, routes)
	topics := []string{"shared", "all", "own.alice"}
	const count = 120
	for name, test := range map[string]struct {
		query string
		limit func(i int) int
		cut   bool
	}{
		"what is there":   {query: "&wait=0"},
		"what comes":      {query: "&wait=5s"},
		"one by one":      {query: "&wait=50ms", limit: func(int) int { return 1 }},
		"a few":           {query: "&wait=50ms", limit: func(i int) int { return 1 + i%7 }},
		"and it is cut":   {query: "&wait=50ms", cut: true},
		"a few and a cut": {query: "&wait=50ms", limit: func(i int) int { return 1 + i%7 }, cut: true},
		"since delivered": {query: "&wait=20ms&since=delivered", limit: func(int) int { return 3 }},
	} {
		t.Run(name, func(t *testing.T) {
			p := &poller{t: t, ignore: func(data string) bool {
				return strings.Contains(data, " alice of ") && !strings.HasPrefix(data, name+" alice of ")
			}}
			p.poll(first.url+"alice&wait=0", -1) // from now
			random := rand.New(rand.NewPCG(1, 1))
			done := make(chan error, 1)
			go func() {
				for i := range count {
					topic := topics[i%len(topics)]
					for _, key := range []string{"bob", "alice"} {
						if key == "bob" && topic != "shared" {
							continue
						}
						if _, err := first.producer.Produce(t.Context(), consumer.Message{Topic: topic, Key: []byte(key), Value: fmt.Appendf(nil, "%s %s of %s %d", name, key, topic, i)}); err != nil {
							done <- err
							return
						}
					}
				}
				done <- nil
			}()
			written := false
			for i := 0; len(p.records) < count || !written; i++ {
				select {
				case err := <-done:
					if written = true; err != nil {
						t.Fatal(err)
					}
				case <-t.Context().Done():
					t.Fatalf("%d of %d records after %d polls", len(p.records), count, i)
				default:
				}
				url, bytes, limit := []*site{first, second}[i%2].url+"alice"+test.query, -1, count
				if test.cut && random.IntN(2) == 0 {
					bytes = random.IntN(1000)
				}
				if test.limit != nil {
					limit = test.limit(i)
					url += fmt.Sprint("&limit=", limit)
				}
				before := len(p.records)
				p.poll(url, bytes)
				if n := len(p.records) - before; n > limit {
					t.Fatalf("%d records, asked for %d", n, limit)
				}
			}
			p.poll(first.url+"alice&wait=0", -1)
			checkOnce(t, p, topics, name, count)
		})
	}
}

// checkOnce checks that each record came once, and in the order of its topic.
func checkOnce(t *testing.T, p *poller, topics []string, name string, count int) {
	t.Helper()
	for n, topic := range topics {
		var want, got []string
		for i := n; i < count; i += len(topics) {
			want = append(want, fmt.Sprintf("%s alice of %s %d", name, topic, i))
		}
		for _, r := range p.records {
			if strings.Contains(r, "of "+topic+" ") {
				got = append(got, r)
			}
		}
		if topic == "all" { // without a key the partition, and with it the order, is the producer's choice
			slices.Sort(want)
			slices.Sort(got)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %d records %q, want %d", topic, len(got), got, len(want))
		}
	}
	if p.gaps > 0 {
		t.Errorf("%d gaps", p.gaps)
	}
}

// TestPollEnds says for each kind of poll what ends it, and what the last checkpoint claims. Its connection serves
// the next request, and herald_streams_ended_total counts it as polled.
func TestPollEnds(t *testing.T) {
	for _, over := range []string{"HTTP/1.1", "HTTP/2"} {
		t.Run(over, func(t *testing.T) {
			start := (*httptest.Server).Start
			if over == "HTTP/2" {
				start = func(s *httptest.Server) { s.EnableHTTP2 = true; s.StartTLS() }
			}
			s := serveWith(t, Config{}, start)
			for i := range 3 {
				put(t, s.producer, "shared", "alice", fmt.Sprint(i))
			}
			present := openWith(t, s.Client(), s.url+"alice&since=earliest", "")
			present.until("2")
			_ = present.res.Body.Close()
			reused := 0
			for _, test := range []struct {
				query   string
				records int
				live    bool
				least   time.Duration
			}{
				{"wait=0", 0, true, 0},
				{"wait=100ms", 0, true, 100 * time.Millisecond},
				{"wait=0&since=earliest", 3, true, 0},
				{"wait=1m&since=earliest", 3, true, 0},
				{"wait=1m&since=earliest&limit=2", 2, false, 0},
				{"wait=1m&since=earliest&limit=3", 3, false, 0},
				{"wait=0&since=earliest&types=other", 0, true, 0},
				{"wait=0&lastEventId=nonsense", 0, true, 0},
				{"wait=1m&lastEventId=nonsense", 0, true, 0}, // the gap is an event
			} {
				begun := time.Now()
				ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(c httptrace.GotConnInfo) {
					if c.Reused {
						reused++
					}
				}})
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"alice&"+test.query, nil)
				if err != nil {
					t.Fatal(err)
				}
				res, err := s.Client().Do(req)
				if err != nil {
					t.Fatal(err)
				}
				text, err := io.ReadAll(res.Body)
				_ = res.Body.Close()
				got := parse(text)
				records := 0
				for _, e := range got.events {
					if e.kind == TypeMessage {
						records++
					}
				}
				if took := time.Since(begun); err != nil || records != test.records || got.isLive() != test.live || took < test.least || took > 30*time.Second {
					t.Errorf("%s: %v after %v, got\n%s", test.query, err, took, text)
				}
			}
			if reused < 8 {
				t.Errorf("%d of 9 polls used a connection again, want all but the first", reused)
			}
			for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) { // a client has its answer before the stream has closed
				n := testutil.ToFloat64(s.hub.metrics.ended.WithLabelValues(endPolled))
				if n == 9 {
					break
				}
				if n > 9 || time.Now().After(deadline) {
					t.Fatalf("%v streams were ended as polled, want 9", n)
				}
			}
			go func() {
				time.Sleep(100 * time.Millisecond)
				_, _ = s.producer.Produce(t.Context(), consumer.Message{Topic: "own.alice", Value: []byte("live")})
			}()
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"alice&wait=1m", nil)
			req.Header.Set("Last-Event-ID", present.last)
			res, err := s.Client().Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = res.Body.Close() }()
			if text, err := io.ReadAll(res.Body); err != nil || !strings.Contains(string(text), "data: live\n") {
				t.Errorf("waiting for a record: %v %s", err, text)
			}
		})
	}
}

// deafKafka is a Kafka that answers only some questions.
type deafKafka struct {
	slowKafka
	joins bool // it says which topics the user has
}

func (k *deafKafka) Join(ctx context.Context, user string) ([]consumer.UserTopic, error) {
	if !k.joins {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return k.slowKafka.Join(ctx, user)
}

func (*deafKafka) Leave(string) {}

func (*deafKafka) Range(context.Context, consumer.Partition, [16]byte) (start, end int64, err error) {
	return 0, 5, nil
}

func (*deafKafka) Since(context.Context, []consumer.Partition, time.Time) (map[consumer.Partition]int64, error) {
	return nil, errors.New("no answer")
}

func (*deafKafka) Replay(_ context.Context, _ string, ranges []consumer.Range, _ func(*consumer.Range, *consumer.Record) bool) {
	for i := range ranges {
		ranges[i].Err = errors.New("no answer")
	}
}

// TestPollWithoutKafka polls while Kafka does not answer. The poll ends after its time, or after 10 seconds if that is
// longer, with a checkpoint from which the client asks again. It does not claim to be live.
func TestPollWithoutKafka(t *testing.T) {
	for _, test := range []struct {
		name  string
		joins bool
		req   streamRequest
		want  string
		after time.Duration
	}{
		{"who has which topics", false, streamRequest{lastID: "1~000000000000.0-4"}, "id: 1~000000000000.0-4\nevent: checkpoint\ndata: {}\n\n", pollPatience},
		{"and a new client", false, streamRequest{}, "id: \nevent: checkpoint\ndata: {}\n\n", pollPatience},
		{"and a long wait", false, streamRequest{wait: time.Minute}, "id: \nevent: checkpoint\ndata: {}\n\n", time.Minute},
		{"offsets of a time", true, streamRequest{since: time.Now()}, "id: \nevent: checkpoint\ndata: {}\n\n", pollPatience},
		{"records", true, streamRequest{lastID: ownID(2)}, "id: " + ownID(2) + "\nevent: checkpoint\ndata: {}\n\n", pollPatience},
		{"records, and a long wait", true, streamRequest{lastID: ownID(2), wait: time.Minute}, "id: " + ownID(2) + "\nevent: checkpoint\ndata: {}\n\n", time.Minute},
		{"records, and a gap is there", true, streamRequest{lastID: ownID(9), wait: time.Minute}, "", pollPatience},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hub, kafka, out := NewHub("event-type", nil), &deafKafka{joins: test.joins}, &endedOutput{ended: make(chan bool, 1)}
				hub.Begin(consumer.Partition{Topic: "own"}, [16]byte{1}, 5)
				s := newStream(t, streamOptions{hub: hub, kafka: kafka, out: out})
				s.env.schedule = func(s *clientStream) { go s.serveQuick() }
				s.sub.serve = s.env.schedule
				s.writer.poll = newPoll(test.req)
				begun := time.Now()
				go s.start(test.req)
				clean := <-out.ended
				if took := time.Since(begun); !clean || took.Round(time.Second) != test.after || !strings.HasSuffix(string(out.text), test.want) {
					t.Errorf("clean %v after %v, want %v; got\n%s\nwant the end\n%s", clean, took, test.after, out.text, test.want)
				}
			})
		})
	}
}

// ownID returns the id of a client that has all records of the topic own up to the offset.
func ownID(offset int64) string {
	at := newTopicCursor("own", newIncarnation([16]byte{1}))
	at.setNextOffset(0, offset+1)
	return string(appendID(nil, cursor{at}))
}

// endedOutput keeps what a stream has written, and reports its end.
type endedOutput struct {
	partOutput
	ended chan bool
}

func (o *endedOutput) close(clean bool) bool {
	o.ended <- clean
	return clean
}

// TestEndAndHeartbeatKeepTheirOrder ends a stream whose heartbeat is due. A record that arrives after the end is
// dropped. No checkpoint may lie after it, or the client would never get it.
func TestEndAndHeartbeatKeepTheirOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub, out, p := NewHub("event-type", nil), new(partOutput), consumer.Partition{Topic: "own"}
		hub.Begin(p, [16]byte{1}, 0)
		s := newStream(t, streamOptions{hub: hub, kafka: &deafKafka{joins: true}, out: out, inline: true})
		s.start(streamRequest{})
		s.sub.busy = true // nobody serves it yet
		s.sub.end(ErrDraining)
		hub.Deliver(p, []consumer.Record{{Record: batch.Record{Offset: 0, Value: []byte("v")}, User: []byte("alice")}}, 2*checkpointAfter)
		s.sub.requestHeartbeat()
		s.serveSlow()
		if got := parse(out.text).events; len(got) == 0 || got[len(got)-1].kind != TypeEnd || len(got) != 2 {
			t.Errorf("got %v, want the first checkpoint and the end", got)
		}
	})
}

// TestPollsOfAUser opens polls beside the streams of a user. Polls end no stream. Polls beyond the number of streams,
// and polls in quick succession, are refused, and the user's streams are not.
func TestPollsOfAUser(t *testing.T) {
	s := serveWith(t, Config{Admission: Admission{PerUser: 2}}, (*httptest.Server).Start)
	streams := []*client{open(t, s.url+"alice", ""), open(t, s.url+"alice", "")}
	for _, c := range streams {
		c.next()
	}
	long := []*client{open(t, s.url+"alice&wait=1m", ""), open(t, s.url+"alice&wait=1m", "")}
	for _, c := range long {
		c.next()
	}
	if e := open(t, s.url+"alice&wait=1m", "").next(); e.kind != TypeEnd || e.data != `{"reason":"busy"}` {
		t.Errorf("the third poll got %+v, want busy", e)
	}
	if e := open(t, s.url+"bob&wait=0", "").next(); e.kind != TypeCheckpoint {
		t.Errorf("a poll of bob's got %+v", e)
	}
	put(t, s.producer, "all", "", "for all")
	for _, c := range append(streams, long...) {
		if e := c.nextButCheckpoint(); e.data != "for all" {
			t.Errorf("got %+v", e)
		}
	}
	for _, c := range long {
		c.next()
		if c.scan.Scan() {
			t.Errorf("a poll goes on with %q", c.scan.Text())
		}
	}
	busy := false
	for range 2 * minShortStreams {
		e := open(t, s.url+"alice&wait=0", "").next()
		busy = busy || e.kind == TypeEnd
	}
	if !busy {
		t.Error("polls in quick succession are not refused")
	}
	if e := open(t, s.url+"alice", "").next(); e.kind != TypeCheckpoint {
		t.Errorf("after polls in quick succession, a stream of the user got %+v", e)
	}
}
