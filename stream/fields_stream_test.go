package stream

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"herald/consumer"
	"herald/consumer/batch"
)

// recordsOf reads a stream until it has count events of records, and returns their lines without the ids, sorted:
// records of different partitions may come in any order.
func recordsOf(t *testing.T, url string, count int) []string {
	t.Helper()
	return readRecords(t, openStream(t, url), count)
}

func openStream(t *testing.T, url string) io.Reader {
	t.Helper()
	return open(t, url, "").res.Body
}

func readRecords(t *testing.T, body io.Reader, count int) (records []string) {
	t.Helper()
	var text strings.Builder
	b := make([]byte, 64<<10)
	for {
		n, err := body.Read(b)
		text.Write(b[:n])
		records = nil
		events := strings.Split(text.String(), "\n\n")
		for _, event := range events[:len(events)-1] {
			_, event, _ = strings.Cut(event, "id: ")
			if _, lines, _ := strings.Cut(event, "\n"); !strings.HasPrefix(lines, "event: checkpoint") {
				records = append(records, lines)
			}
		}
		if len(records) >= count {
			slices.Sort(records)
			return records
		}
		if err != nil {
			t.Fatalf("%d records of %d, then %v", len(records), count, err)
		}
	}
}

// TestFieldsLiveAndByReplay delivers records with and without values, keys and headers, of every size, in each shape:
// live, by replay from the tail, and by replay from Kafka. Each stream must get the same bytes in the three ways, and
// nothing of another user.
func TestFieldsLiveAndByReplay(t *testing.T) {
	broker, routes := startBrokerOfEachKind(t)
	registries := []*prometheus.Registry{prometheus.NewRegistry(), prometheus.NewRegistry()}
	first := serveConsumer(t, broker, Config{MaxQueue: 8 << 20}, consumer.Config{Routes: routes, Registry: registries[0]}, (*httptest.Server).Start)
	put(t, first.producer, "own.alice", "", "the topic exists")
	long := strings.Repeat("long\r\n ", 8<<10)
	messages := []consumer.Message{
		{Topic: "shared", Key: []byte("alice"), Value: []byte("small")},
		{Topic: "shared", Key: []byte("alice"), Value: []byte(long), Headers: []consumer.Header{{Key: "trace", Value: []byte("a\nb")}, {Key: "secret", Value: []byte("SECRET")}}},
		{Topic: "shared", Key: []byte("alice"), Headers: []consumer.Header{{Key: "event-type", Value: []byte("news")}}}, // a tombstone
		{Topic: "all", Value: []byte("no key")},
		{Topic: "all", Key: []byte(long), Value: []byte("a long key")},
		{Topic: "all", Key: []byte(long), Value: []byte(long)},
		{Topic: "all", Key: []byte("a\nid: 9\n\nevent: end"), Value: []byte("a\r\nb"), Headers: []consumer.Header{{Key: "event-type", Value: []byte("news")}}},
		{Topic: "all", Key: []byte(long), Value: []byte{}, Headers: []consumer.Header{{Key: "event-type", Value: []byte("delete")}}},
		{Topic: "all", Key: []byte(long)},
		{Topic: "all", Key: []byte("k"), Headers: []consumer.Header{{Key: "trace", Value: []byte(long)}}},
		{Topic: "own.alice", Key: []byte{0xff}, Value: []byte{}},
		{Topic: "own.alice", Key: []byte{}},
	}
	const tombstones = 4
	queries := []string{"", "&fields=time,key,pos,headers", "&fields=pos", "&format=json", "&fields=time,key,pos,headers&format=json", "&fields=headers&format=json"}
	count := func(query string) int {
		if strings.Contains(query, "fields") {
			return len(messages)
		}
		return len(messages) - tombstones
	}
	live := make([]io.Reader, len(queries))
	from := open(t, first.url+"alice", "").next().id
	for i, query := range queries {
		live[i] = openStream(t, first.url+"alice"+query+"&lastEventId="+from)
	}
	awaitServed(t, first.hub, "alice", 1+len(queries)) // they have caught up, and get the records live
	for _, m := range messages {
		if _, err := first.producer.Produce(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		m.Headers = append(m.Headers, consumer.Header{Key: "trace", Value: []byte("SECRET")})
		if m.Topic = strings.Replace(m.Topic, "alice", "bob", 1); m.Topic != "all" { // another user's
			m.Key = []byte("bob")
			if _, err := first.producer.Produce(t.Context(), m); err != nil {
				t.Fatal(err)
			}
		}
	}
	second := serveConsumer(t, broker, Config{}, consumer.Config{Routes: routes, ReplayCacheBytes: -1, Registry: registries[1]}, (*httptest.Server).Start)
	open(t, second.url+"alice", "").next()
	for i, query := range queries {
		got := readRecords(t, live[i], count(query))
		if len(got) != count(query) || strings.Contains(strings.Join(got, ""), "SECRET") || strings.Contains(query, "pos") != strings.Contains(got[0], "pos") {
			t.Errorf("%q: live %d records, want %d: %.300q", query, len(got), count(query), got)
		}
		for how, url := range map[string]string{"the tail": first.url, "Kafka": second.url} {
			if diff := cmp.Diff(got, recordsOf(t, url+"alice"+query+"&lastEventId="+from, count(query))); diff != "" {
				t.Errorf("%q: live, and then from %s:\n%.2000s", query, how, diff)
			}
		}
	}
	if live := testutil.ToFloat64(first.hub.metrics.live); live < float64(len(queries)*(len(messages)-tombstones)) {
		t.Errorf("%v events came live", live)
	}
	if tail, kafka := tailReplays(t, registries[0]), tailReplays(t, registries[1]); tail == 0 || kafka > 0 {
		t.Errorf("%v and %v replays were from the tail", tail, kafka)
	}
}

// tailReplays returns how many ranges a consumer replayed from the tail.
func tailReplays(t *testing.T, of *prometheus.Registry) float64 {
	t.Helper()
	families, err := of.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "herald_kafka_tail_replays_total" {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	t.Fatal("the metric is not registered")
	return 0
}

// TestFieldsCount delivers records whose fields are large, small, or shared. What waits for a stream counts them.
func TestFieldsCount(t *testing.T) {
	for _, test := range []struct {
		name      string
		shape     shape
		key       int
		value     int
		broadcast bool
	}{
		{"a small key", showKey, 20 << 10, 10, false},
		{"a large key", showKey, 1 << 20, 10, false},
		{"a large key in an envelope", showKey | showEnvelope, 1 << 20, 10, false},
		{"a small key with a large value", showKey, 20 << 10, 40 << 10, false},
		{"a small key with a large value for everyone", showKey, 20 << 10, 40 << 10, true},
		{"a small key for everyone", showKey | showEnvelope, 20 << 10, 10, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			h, p := NewHub("event-type", nil), consumer.Partition{Topic: "shared"}
			h.Begin(p, [16]byte{1}, 0)
			s := caughtUp(h, "alice", 8<<20)
			s.shape = test.shape
			r := consumer.Record{Record: batch.Record{Key: make([]byte, test.key), Value: make([]byte, test.value)}, User: []byte("alice"), Broadcast: test.broadcast}
			h.Deliver(p, []consumer.Record{r}, 1)
			if q, _, _ := s.takeQueue(); q.size() < test.key+test.value {
				t.Errorf("a queue of %d bytes for a record of %d", q.size(), test.key+test.value)
			}
		})
	}
}

// TestNoFieldsNoTombstones delivers a tombstone to streams with and without fields.
func TestNoFieldsNoTombstones(t *testing.T) {
	for _, broadcast := range []bool{false, true} {
		h, p := NewHub("event-type", nil), consumer.Partition{Topic: "shared"}
		h.Begin(p, [16]byte{1}, 0)
		plain, envelope, fields, bob := caughtUp(h, "alice", 1<<20), caughtUp(h, "alice", 1<<20), caughtUp(h, "alice", 1<<20), caughtUp(h, "bob", 1<<20)
		envelope.shape, fields.shape, bob.shape = showEnvelope, showTime, showKey
		h.Deliver(p, []consumer.Record{{Record: batch.Record{Key: []byte("alice")}, User: []byte("alice"), Broadcast: broadcast}}, 1)
		want := map[*subscription]bool{plain: false, envelope: false, fields: true, bob: broadcast}
		for s, gets := range want {
			q, _, _ := s.takeQueue()
			if got := q != nil; got != gets || gets && q.items[0].eventType != TypeDelete {
				t.Errorf("broadcast %t: a stream of %s in shape %b has the tombstone: %t", broadcast, s.user, s.shape, got)
			}
		}
		if got := testutil.ToFloat64(h.metrics.tombstones); got != 1 {
			t.Errorf("%v tombstones are counted", got)
		}
	}
}

// TestTypesAndTombstones opens streams that choose types, or may see certain types only. A tombstone has the type
// delete.
func TestTypesAndTombstones(t *testing.T) {
	for _, test := range []struct {
		query string
		may   []string
		want  bool
	}{
		{"", nil, true},
		{"&types=delete", nil, true},
		{"&types=message", nil, false},
		{"", []string{"message", "last"}, false},
		{"&types=delete", []string{"message", "last"}, false},
		{"", []string{"delete", "last"}, true},
	} {
		r := streamRequest{}
		query, err := ParseQuery("fields=pos" + test.query)
		if err == nil {
			r, err = readRequest(http.Header{}, query, time.Now())
		}
		if err != nil {
			t.Fatal(err)
		}
		r.allow(Viewer{Types: test.may})
		if got := newChoice(&r).hasType(NewHub("", nil).eventTypeOf(&consumer.Record{})); got != test.want {
			t.Errorf("%q, may see %q: gets a tombstone: %t", test.query, test.may, got)
		}
	}
}
