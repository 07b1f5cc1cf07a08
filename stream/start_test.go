package stream

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"herald/consumer"
)

func TestParseRequest(t *testing.T) {
	now := time.Date(2026, 1, 31, 8, 0, 0, 0, time.UTC)
	for query, want := range map[string]streamRequest{
		"":                               {},
		"since=now":                      {},
		"heartbeat=event":                {beats: true},
		"since=earliest":                 {earliest: true},
		"since=delivered":                {unseen: true},
		"since=0001-01-01T00:00:00Z":     {earliest: true},
		"since=90m":                      {since: now.Add(-90 * time.Minute)},
		"since=2026-01-30T08:00:00Z":     {since: now.Add(-24 * time.Hour)},
		"types=a,message":                {types: []string{"a", "message"}},
		"types=a,%20b%20,+c+d":           {types: []string{"a", "b", "c d"}},
		"lastEventId=1~x&since=earliest": {lastID: "1~x", earliest: true},
		"fields=pos":                     {shape: showPos},
		"fields=time,key,pos,headers":    {shape: showTime | showKey | showPos | showHeaders},
		"fields=key,key":                 {shape: showKey},
		"fields=key,%20pos":              {shape: showKey | showPos},
		"format=json":                    {shape: showEnvelope},
		"format=json&fields=headers":     {shape: showEnvelope | showHeaders},
		"wait=0":                         {polls: true},
		"limit=10000&wait=5m":            {polls: true, wait: 5 * time.Minute, limit: 10_000},
	} {
		req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/events?"+query, nil)
		got, err := parseRequest(t, req, now)
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(streamRequest{})); diff != "" || err != nil {
			t.Errorf("%q: %v %s", query, err, diff)
		}
	}
	for query, want := range map[string]string{
		"heartbeat=comment":                 `heartbeat: "comment": want event`,
		"since=yesterday":                   `since: "yesterday": want now, earliest`,
		"since=2026-11-29T13:00:00+01:00":   `since: "2026-11-29T13:00:00 01:00" has a space: encode a plus sign as %2B; want now`,
		"since=+90m":                        `since: " 90m" has a space: encode a plus sign as %2B`,
		"since=-5m":                         `"-5m"`,
		"since=1":                           `"1"`,
		"since=7d":                          `since: "7d": an age has no such unit: write 168h`,
		"since=2w":                          `since: "2w": an age has no such unit: write 336h`,
		"since=d":                           `since: "d": want now`,
		"since=" + strings.Repeat("x", 100): `"` + strings.Repeat("x", 40) + `": want`,
		"since=%zz":                         "percent-encode",
		"types=a;b":                         "percent-encode",
		"types=a,":                          `""`,
		"types=a,%20":                       `""`,
		"types=checkpoint":                  `"checkpoint"`,
		"types=a%0Ab":                       `"a\nb"`,
		"fields=tme":                        `"tme" is not a field: want some of time, key, pos and headers`,
		"fields=time,":                      `"" is not a field`,
		"fields=time;key":                   "percent-encode",
		"format=xml":                        `format: "xml": want json`,
		"format=%zz":                        "percent-encode",
		"wait=1":                            `wait: "1" has no unit: write wait=1s for seconds`,
		"wait=-1s":                          `wait: "-1s": want a time from 0 to 5m`,
		"wait=5m1ms":                        `wait: "5m1ms": want a time from 0 to 5m`,
		"wait=soon":                         `wait: "soon": want a time from 0 to 5m`,
		"limit=5":                           `limit: it has no effect on a stream, which stays open: add wait, such as wait=0`,
		"wait=0&limit=0":                    `limit: "0": want a number of records from 1 to 10000`,
		"wait=0&limit=10001":                `limit: "10001": want a number`,
		"wait=0&limit=1e3":                  `limit: "1e3": want a number`,
		"types=a" + strings.Repeat(",a", maxTypes): "more than",
	} {
		req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/events?"+query, nil)
		if got, err := parseRequest(t, req, now); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %+v, error %v, want one with %s", query, got, err, want)
		}
	}
}

// until returns the data of the record events up to and including last.
func (c *client) until(last string) []string {
	c.t.Helper()
	var got []string
	for {
		e := c.next()
		if e.kind == TypeCheckpoint {
			continue
		}
		if got = append(got, e.data); e.data == last {
			return got
		}
	}
}

// TestSince begins streams without an id at a past time and checks that they get exactly the records written
// since then. The order across partitions is the order of arrival.
func TestSince(t *testing.T) {
	url, producer := serve(t)
	put(t, producer, "shared", "alice", "first")
	put(t, producer, "own.alice", "", "own")
	put(t, producer, "shared", "bob", "not hers")
	time.Sleep(1100 * time.Millisecond) // so that timestamps differ
	between := time.Now().UTC().Format(time.RFC3339)
	put(t, producer, "shared", "alice", "second")
	time.Sleep(10 * time.Millisecond) // an age of zero begins with the present millisecond
	all := []string{"first", "own", "second"}
	some(open(t, url+"alice&since=earliest", ""), len(all)) // waits until the replica has read all: since=now begins where the replica is
	var c *client
	for since, want := range map[string][]string{
		"earliest": all, "1h": all, time.Now().Add(-time.Hour).UTC().Format(time.RFC3339): all, between: {"second"}, "now": {}, "0s": {},
	} {
		c = open(t, url+"alice&since="+since, "")
		got := []string{}
		for asked, ended := false, false; !ended; {
			switch e := c.next(); {
			case e.data == "end of "+since:
				ended = true
			case e.kind != TypeCheckpoint && !strings.HasPrefix(e.data, "end of "):
				got = append(got, e.data)
			}
			if len(got) == len(want) && !asked {
				asked = true
				put(t, producer, "all", "", "end of "+since)
			}
		}
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("since %s: %s", since, diff)
		}
	}
	// An id takes precedence over since.
	again := open(t, url+"alice&since=earliest", c.last)
	put(t, producer, "shared", "alice", "third")
	if got := again.until("third"); len(got) != 1 {
		t.Errorf("with an id: %q, want what came behind it", got)
	}
}

// TestChosenTypes chooses event types, live and in a replay, and resumes after events that were left out.
func TestChosenTypes(t *testing.T) {
	url, producer := serve(t)
	typed := func(kind string) consumer.Header { return consumer.Header{Key: "event-type", Value: []byte(kind)} }
	c := open(t, url+"alice&types=a,message", "")
	c.next()
	for range 2 {
		put(t, producer, "shared", "alice", "A", typed("a"))
		put(t, producer, "shared", "alice", "B", typed("b"))
		put(t, producer, "shared", "alice", "plain")
		put(t, producer, "shared", "alice", "end", typed("a"))
		if got := strings.Join(c.until("end"), " "); got != "A plain end" {
			t.Errorf("got %q, want the two types asked for", got)
		}
		_ = c.res.Body.Close()
		put(t, producer, "shared", "alice", "B", typed("b"))
		put(t, producer, "shared", "alice", "missed", typed("a"))
		c = open(t, url+"alice&types=a,message", c.last)
		if got := strings.Join(c.until("missed"), " "); got != "missed" {
			t.Errorf("got %q of what was missed", got)
		}
	}
}

// TestReplayLimit resumes further back than the server allows. The client must get one gap for the records left
// out, and then the rest.
func TestReplayLimit(t *testing.T) {
	s := serveWith(t, Config{Limits: Limits{Records: 3}}, (*httptest.Server).Start)
	url, producer := s.url, s.producer
	c := open(t, url+"alice", "")
	c.next()
	_ = c.res.Body.Close()
	var written consumer.Written
	for i := range 10 {
		var err error
		if written, err = producer.Produce(t.Context(), consumer.Message{Topic: "shared", Key: []byte("alice"), Value: []byte{byte('0' + i)}}); err != nil {
			t.Fatal(err)
		}
	}
	waiting := open(t, url+"alice", "") // once this stream gets the next record, the server has read the whole topic
	waiting.next()
	put(t, producer, "shared", "alice", "last")
	waiting.until("last")
	limited := open(t, url+"alice", c.last)
	var gap event
	for gap.kind != TypeGap {
		gap = limited.next()
	}
	if !strings.Contains(gap.data, `"reason":"replay-limit"`) || !strings.Contains(gap.data, `"from":0,"to":8`) {
		t.Errorf("gap %s of partition %d", gap.data, written.ID)
	}
	if got := strings.Join(limited.until("last"), " "); got != "8 9 last" {
		t.Errorf("got %q, want the last three", got)
	}
	again := open(t, url+"alice", limited.last)
	put(t, producer, "shared", "alice", "more")
	if got := strings.Join(again.until("more"), " "); got != "more" {
		t.Errorf("after the gap: %q, want nothing told twice", got)
	}
}

// TestSinceDelivered disconnects before some of the user's own notifications and connects from another device
// without an id. The unseen notifications must come, and the seen ones must not.
func TestSinceDelivered(t *testing.T) {
	s := serveWith(t, Config{}, (*httptest.Server).Start)
	url, producer := s.url, s.producer
	put(t, producer, "own.alice", "", "0")
	first := open(t, url+"alice&since=delivered", "") // nothing was ever delivered, so everything is unseen
	put(t, producer, "own.alice", "", "1")
	if got := strings.Join(first.until("1"), " "); got != "0 1" {
		t.Errorf("the first device got %q", got)
	}
	_ = first.res.Body.Close()
	s.awaitEnded(t, "client", 1) // until the stream has ended, writes to it count as delivered
	put(t, producer, "own.alice", "", "2")
	put(t, producer, "shared", "alice", "shared topics begin now")
	for read := int64(0); read == 0; time.Sleep(time.Millisecond) { // "now" is what this replica has read
		for _, p := range s.hub.seam([]consumer.UserTopic{{Topic: "shared"}})[0].positions {
			read += p.next
		}
	}
	put(t, producer, "own.alice", "", "3")
	second := open(t, url+"alice&since=delivered", "")
	if got := strings.Join(second.until("3"), " "); got != "2 3" {
		t.Errorf("the second device got %q, want what no device has had", got)
	}
}

// TestStrangePartitions resumes from an id that names far more partitions than exist. Later ids must not carry
// them.
func TestStrangePartitions(t *testing.T) {
	url, producer := serve(t)
	id := open(t, url+"alice", "").next().id
	sources, err := decodeID(id)
	if err != nil {
		t.Fatal(err)
	}
	forged := topicCursor{name: "shared", nameTag: tag("shared"), incarnation: incarnation{incarnationTag: sources[tag("shared")].incarnation}}
	for p := range int32(1000) {
		forged.setNextOffset(10+p, 5)
	}
	before, _, _ := strings.Cut(id, "~"+tag("shared"))
	c := open(t, url+"alice", before+strings.TrimPrefix(string(appendID(nil, cursor{forged})), idVersion))
	if e := c.next(); e.kind != TypeGap || e.data != `{"source":"shared","reason":"unknown-id"}` {
		t.Errorf("got %+v, want a gap", e)
	}
	c.next()
	put(t, producer, "shared", "alice", "x")
	if e := c.nextButCheckpoint(); e.data != "x" || len(e.id) > 2*len(id) {
		t.Errorf("got %q with an id of %d bytes, want one of about %d", e.data, len(e.id), len(id))
	}
}
