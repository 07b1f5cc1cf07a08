package integration

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestResumeAfterEachEvent cuts the stream after every event, checkpoints included, while producers write. So the
// cuts come before, at and after the change from replay to live. The records of each lane must come once and in
// order.
func TestResumeAfterEachEvent(t *testing.T) {
	const each = 40 // records in each lane
	b := sharedBroker(t)
	h, lanes, shared := startWithLanes(t, b)
	alice := openStream(t, h, "alice")

	var producers sync.WaitGroup
	defer producers.Wait()
	for _, l := range lanes {
		producers.Go(func() {
			for n := range each {
				others := inPartition(l.partition, record(shared, "bob", "bob's"))
				if err := b.producer.ProduceSync(t.Context(), others, l.record(n)).FirstErr(); err != nil {
					t.Errorf("produce to %s: %v", l.name, err)
					return
				}
				time.Sleep(10 * time.Millisecond) // so that some records before a cut are read live
			}
		})
	}
	got := inOrder{}
	for received := 0; received < each*len(lanes); received++ {
		alice.Reconnect()
		if received%2 == 0 {
			alice.Reconnect() // with the id of a checkpoint that nothing came after
		}
		for range received % 3 { // sometimes on into the live part
			if received+1 < each*len(lanes) {
				got.add(t, alice.Record().Data)
				received++
			}
		}
		got.add(t, alice.Record().Data)
	}
	got.check(t, lanes, each)
	// Fails if an earlier record comes again.
	b.produce(t, lanes[0].record(each))
	alice.Reconnect()
	got.add(t, alice.Record().Data)
}

// TestResumeAfterEachByte cuts the connection after every number of bytes of a replay. A truncated event counts as
// not received and must be sent again in full.
func TestResumeAfterEachByte(t *testing.T) {
	b := sharedBroker(t)
	topic := b.newTopic(t, "shared", 1)
	h := startHerald(t, b, "--topic="+topic, "--max-streams-per-user=0") // more reconnections a second than one user may make
	start := openStream(t, h, "alice").LastID
	want := []string{"first", "second\nline", "", "fourth"}
	for _, value := range want {
		b.produce(t, record(topic, "alice", value))
	}
	for limit := int64(1); ; limit++ {
		alice := newStream(t, h.public, "alice")
		alice.LastID, alice.limit = start, limit
		alice.Connect()
		got := []string{}
		cut := false
		for len(got) < len(want) && !cut {
			e, err := alice.read()
			switch {
			case errors.Is(err, io.EOF):
				cut = true
			case err != nil:
				t.Fatalf("cut after %d bytes: %v", limit, err)
			case e.Type == "message":
				got = append(got, e.Data)
			}
		}
		before := len(got)
		if cut {
			alice.limit = 0
			alice.Reconnect()
			got = append(got, alice.Values(len(want)-len(got))...)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("cut after %d bytes, %d records in (-want +got):\n%s", limit, before, diff)
		}
		alice.Cut()
		if !cut {
			return // the limit is past the last record
		}
	}
}

// TestLastEventID resumes from the query parameter, as a reloaded page does. The header, which the browser sends
// when it reconnects, is newer and takes precedence.
func TestLastEventID(t *testing.T) {
	b := sharedBroker(t)
	topic := b.newTopic(t, "shared", 1)
	h := startHerald(t, b, "--topic="+topic)
	alice := openStream(t, h, "alice")
	ids := []string{alice.LastID}
	for _, value := range []string{"a", "b"} {
		b.produce(t, record(topic, "alice", value))
		ids = append(ids, alice.Record().ID)
	}
	for name, test := range map[string]struct {
		query, header string
		want          []string
	}{
		"query":  {ids[0], "", []string{"a", "b"}},
		"header": {"", ids[1], []string{"b"}},
		"both":   {ids[0], ids[1], []string{"b"}},
	} {
		s := newStream(t, h.public, "alice")
		if test.query != "" {
			s.url += "&lastEventId=" + test.query
		}
		s.LastID = test.header
		s.Reconnect()
		if diff := cmp.Diff(test.want, s.Values(len(test.want))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// TestStreamHeaders checks the headers that make browsers and proxies stream.
func TestStreamHeaders(t *testing.T) {
	b := sharedBroker(t)
	h := startHerald(t, b, "--topic="+b.newTopic(t, "shared", 1))
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+h.public+"/events?user=alice", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Accept-Encoding", "gzip, br")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	got := map[string]string{}
	for _, name := range []string{"Content-Type", "Cache-Control", "X-Accel-Buffering", "Content-Encoding", "Content-Length"} {
		got[name] = strings.Join(response.Header.Values(name), ", ")
	}
	want := map[string]string{
		"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no",
		"Content-Encoding": "", "Content-Length": "",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
}
