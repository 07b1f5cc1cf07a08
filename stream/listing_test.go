package stream

import (
	"context"
	"fmt"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"herald/consumer"
	"herald/consumer/batch"
)

// heldKafka is a Kafka of one topic that holds back its answers until the test releases them.
type heldKafka struct {
	stillKafka
	join, replay chan struct{} // nil: answers at once
}

func (k *heldKafka) Join(ctx context.Context, _ string) ([]consumer.UserTopic, error) {
	if k.join != nil {
		select {
		case <-k.join:
		case <-ctx.Done():
		}
	}
	return []consumer.UserTopic{{Topic: "shared"}}, context.Cause(ctx)
}

func (k *heldKafka) Replay(ctx context.Context, _ string, ranges []consumer.Range, fn func(*consumer.Range, *consumer.Record) bool) {
	r, value := &ranges[0], []byte("replayed")
	if k.replay != nil {
		value = make([]byte, maxReplayPiece/2) // the second record makes the stream send the first one
	}
	for r.Next < r.To {
		if !fn(r, &consumer.Record{Record: batch.Record{Offset: r.Next, Value: value}}) {
			return
		}
		if r.Next++; k.replay != nil {
			select {
			case <-k.replay:
			case <-ctx.Done():
				return
			}
		}
	}
}

func (k *heldKafka) Since(_ context.Context, all []consumer.Partition, _ time.Time) (map[consumer.Partition]int64, error) {
	return map[consumer.Partition]int64{all[0]: 0}, nil
}

func (k *heldKafka) Range(context.Context, consumer.Partition, [16]byte) (start, end int64, err error) {
	return 0, 0, fmt.Errorf("no leader")
}

// fixedLogs is what the consumer knows of the topic.
type fixedLogs struct {
	end      int64
	answered time.Time
}

func (l fixedLogs) LogEnds(string) []consumer.LogEnd {
	return []consumer.LogEnd{{Start: 0, End: l.end, Answered: l.answered}}
}

// gate is an output that takes bytes only while it is open.
type gate struct {
	closed atomic.Bool
	opened chan struct{}
}

func (g *gate) send(b []byte) ([]byte, error) {
	if g.closed.Load() {
		return b[headroom:], nil
	}
	return nil, nil
}
func (g *gate) sendLarge(*large) ([]byte, error) { return nil, nil }
func (g *gate) finish([]byte) error              { <-g.opened; return nil }
func (g *gate) close(clean bool) bool            { return clean }
func (g *gate) leave()                           {}
func (g *gate) cut()                             { close(g.opened) }

// TestStates checks the state, the position and the queue of streams in each situation.
func TestStates(t *testing.T) {
	const read = 7 // the offset that the replica has read up to
	record := consumer.Record{Record: batch.Record{Offset: read, Value: []byte("live")}, User: []byte("alice")}
	p := consumer.Partition{Topic: "shared"}
	for name, test := range map[string]struct {
		holdJoin, holdReplay bool
		request              streamRequest
		slow                 bool
		live                 int   // records that are delivered later
		end                  int64 // of the log, after what is read
		quiet                time.Duration
		want                 State
		next                 int64 // the position's next offset; -1: not known
		queued               bool
	}{
		"live":                           {want: StateLive, next: read},
		"live, after a record":           {live: 1, want: StateLive, next: read + 1},
		"live, and the replica is late":  {end: 5, want: StateLive, next: read},
		"the broker is silent":           {quiet: time.Minute, want: StateWaiting, next: read},
		"the topics are not known":       {holdJoin: true, want: StateWaiting, next: -1},
		"a partition has no answer":      {request: streamRequest{lastID: "ahead"}, want: StateWaiting, next: read + 100},
		"a replay is under way":          {holdReplay: true, request: streamRequest{earliest: true}, want: StateCatchingUp, next: 1},
		"the client takes nothing":       {slow: true, live: 1, want: StateSlow, next: read + 1, queued: true},
		"the client takes nothing again": {slow: true, live: 3, quiet: time.Minute, want: StateSlow, next: read + 1, queued: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				kafka := new(heldKafka)
				if test.holdJoin {
					kafka.join = make(chan struct{})
				}
				if test.holdReplay {
					kafka.replay = make(chan struct{})
				}
				hub := NewHub("event-type", nil)
				hub.Begin(p, [16]byte{1}, read)
				h := NewHandler(Config{Hub: hub, Kafka: kafka, Heartbeat: time.Hour})
				out := &gate{opened: make(chan struct{})}
				if h.roster.admit(netip.Addr{}, "alice", false) != "" {
					t.Fatal("not admitted")
				}
				if test.request.lastID != "" {
					at := newTopicCursor("shared", newIncarnation([16]byte{1}))
					at.setNextOffset(0, test.next)
					test.request.lastID = string(appendID(nil, cursor{at}))
				}
				s := h.register(Viewer{User: "alice"}, netip.Addr{}, test.request, out)
				go s.start(test.request)
				synctest.Wait()
				out.closed.Store(test.slow)
				for i := range test.live {
					hub.Deliver(p, []consumer.Record{{Record: batch.Record{Offset: record.Offset + int64(i), Value: record.Value}, User: record.User}}, record.Offset+int64(i)+1)
					synctest.Wait()
				}
				if test.holdReplay {
					kafka.replay <- struct{}{}
				}
				time.Sleep(2 * slowAfter)
				synctest.Wait()
				logs := fixedLogs{end: read + int64(test.live) + test.end, answered: time.Now().Add(-test.quiet)}
				got := h.List(Filter{User: "alice"}, logs)
				if got.Streams != 1 || got.States[test.want] != 1 || len(got.Listed) != 1 || got.Listed[0].State != test.want {
					t.Fatalf("%+v, want one stream in state %s", got, test.want)
				}
				one := got.Listed[0]
				if (one.QueuedBytes > 0) != test.queued || one.User != "alice" || one.Kind != "stream" {
					t.Errorf("%+v, want bytes in the queue: %v", one, test.queued)
				}
				if test.live > 1 && one.QueuedRecords != test.live-1 {
					t.Errorf("%d records wait in the queue, want %d", one.QueuedRecords, test.live-1)
				}
				next, behind := int64(-1), int64(-1)
				if one.Position != nil {
					saved, err := decodeID(*one.Position)
					if err != nil {
						t.Fatal(err)
					}
					at := saved[tag("shared")]
					next = at.positions[0].next
				}
				if one.Behind != nil {
					behind = *one.Behind
				}
				if want := max(-1, logs.end-next); next != test.next || test.next < 0 && behind != -1 || test.next >= 0 && behind != max(0, want) {
					t.Errorf("position %d, %d records behind; want %d and %d", next, behind, test.next, want)
				}
				out.closed.Store(false)
				s.sub.end(errGone)
				close(out.opened)
				h.Drain(context.WithoutCancel(t.Context()), 0)
				if got := h.List(Filter{}, logs); got.Streams != 0 {
					t.Errorf("%+v after the end, want no stream", got)
				}
			})
		})
	}
}

// TestListingFilters lists streams over real connections, by every filter, and ends some.
func TestListingFilters(t *testing.T) {
	s := serveWith(t, Config{}, (*httptest.Server).Start)
	alice, other, bob := open(t, s.url+"alice", ""), open(t, s.url+"alice", ""), open(t, s.url+"bob", "")
	for _, c := range []*client{alice, other, bob} {
		c.next()
	}
	put(t, s.producer, "shared", "bob", "for bob")
	bob.nextButCheckpoint()
	list := func(f Filter) Listing { return s.handler.List(f, s.consumer) }
	all := list(Filter{})
	// While Herald serves a stream, a listing cannot tell how far behind the stream is.
	unknown := func(s ListedStream) bool { return s.Behind == nil }
	// The streams are live once Kafka has answered.
	for deadline := time.Now().Add(20 * time.Second); all.States[StateLive] < 3 || slices.ContainsFunc(all.Listed, unknown); all = list(Filter{}) {
		if time.Now().After(deadline) {
			t.Fatalf("%+v, want three live streams", all)
		}
		time.Sleep(10 * time.Millisecond)
	}
	if len(all.Listed) != 3 || all.Streams != 3 {
		t.Fatalf("%+v, want three live streams", all)
	}
	for i := range all.Listed[1:] {
		if all.Listed[i].ID >= all.Listed[i+1].ID {
			t.Errorf("%+v, want the oldest first, each with another id", all.Listed)
		}
	}
	newest := all.Listed[2]
	if newest.User != "bob" || newest.Events != 1 || newest.Bytes == 0 || newest.LastWrite == nil || newest.Address != "127.0.0.1" ||
		newest.Protocol != "HTTP/1.1" || newest.Behind == nil || *newest.Behind != 0 || newest.QueuedBytes != 0 {
		t.Errorf("%+v, want bob's stream with one event", newest)
	}
	for name, test := range map[string]struct {
		filter         Filter
		streams, shown int
	}{
		"a user":          {Filter{User: "alice"}, 2, 2},
		"nobody":          {Filter{User: "Alice"}, 0, 0},
		"an id":           {Filter{ID: newest.ID}, 1, 1},
		"another id":      {Filter{ID: newest.ID + 1}, 0, 0},
		"a limit":         {Filter{Limit: 1}, 3, 1},
		"a state":         {Filter{State: StateSlow}, 3, 0},
		"a network":       {Filter{Network: netip.MustParsePrefix("127.0.0.0/8")}, 3, 3},
		"another network": {Filter{Network: netip.MustParsePrefix("10.0.0.0/8")}, 0, 0},
	} {
		if got := list(test.filter); got.Streams != test.streams || len(got.Listed) != test.shown {
			t.Errorf("%s: %+v, want %d streams, %d of them listed", name, got, test.streams, test.shown)
		}
	}
	for _, f := range []Filter{{User: "alice"}, {ID: newest.ID}, {User: "alice"}} {
		want := list(f).Streams
		if got := s.handler.EndChosen(f); got != want {
			t.Errorf("%+v: ended %d streams, want %d", f, got, want)
		}
		for list(f).Streams > 0 {
			time.Sleep(time.Millisecond)
		}
	}
	for _, c := range []*client{alice, other, bob} {
		if e := c.nextButCheckpoint(); e.kind != TypeEnd || e.data != `{"reason":"reconnect"}` {
			t.Errorf("got %+v, want the end of the stream", e)
		}
	}
	ended := func() float64 { return testutil.ToFloat64(s.hub.metrics.ended.WithLabelValues("reconnect")) }
	for deadline := time.Now().Add(10 * time.Second); ended() != 3; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%v streams are counted as ended, want 3", ended())
		}
	}
}

// TestListingWhileStreamsAreServed lists streams while they get records, catch up, open and close. The race detector
// must find nothing, and no position may go back.
func TestListingWhileStreamsAreServed(t *testing.T) {
	const users, records = 10, 100
	hub := NewHub("event-type", nil)
	p := consumer.Partition{Topic: "shared"}
	hub.Begin(p, [16]byte{1}, 0)
	h := NewHandler(Config{Hub: hub, Kafka: &heldKafka{}, Heartbeat: time.Second})
	open := func(user string) *clientStream {
		if reason := h.roster.admit(netip.Addr{}, user, false); reason != "" {
			t.Error(reason)
		}
		s := h.register(Viewer{User: user}, netip.Addr{}, streamRequest{}, &gate{})
		s.start(streamRequest{})
		return s
	}
	for i := range users {
		open(fmt.Sprint("user-", i))
	}
	var others sync.WaitGroup
	done := make(chan struct{})
	others.Go(func() {
		for offset := range int64(records) {
			user := fmt.Sprint("user-", offset%users)
			hub.Deliver(p, []consumer.Record{{Record: batch.Record{Offset: offset, Value: []byte("x")}, User: []byte(user)}}, offset+1)
			if s := open("guest"); offset%3 == 0 {
				s.sub.requestCatchUp()
			} else {
				s.sub.requestHeartbeat()
				s.sub.end(errGone)
			}
		}
		close(done)
	})
	before := make(map[int64]int64)
	for listed := false; !listed || !isEnded(done); listed = true {
		for _, one := range h.List(Filter{}, fixedLogs{end: records, answered: time.Now()}).Listed {
			if one.Behind == nil {
				continue
			}
			if was, known := before[one.ID]; known && *one.Behind > was {
				t.Errorf("%s was %d records behind, and then %d", one.User, was, *one.Behind)
			}
			before[one.ID] = *one.Behind
		}
	}
	others.Wait()
	h.Drain(context.WithoutCancel(t.Context()), 0)
}

func isEnded(done chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}

// TestProtocols writes protocols as a listing shows them.
func TestProtocols(t *testing.T) {
	for p, want := range map[protocol]string{10 << 1: "HTTP/1.0", 11 << 1: "HTTP/1.1", 11<<1 | overTLS: "HTTP/1.1+TLS", 20 << 1: "HTTP/2", 20<<1 | overTLS: "HTTP/2+TLS"} {
		if got := p.String(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if got := addressText(netip.MustParseAddr("2001:db8::")); !strings.HasSuffix(got, "::/64") {
		t.Errorf("%s, want the network of an IPv6 client", got)
	}
}
