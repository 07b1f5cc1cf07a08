package consumer

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kfake"

	"herald/consumer/batch"
)

func TestParseConditions(t *testing.T) {
	for _, test := range []struct {
		texts []string
		want  Conditions
		wrong string
	}{
		{nil, nil, ""},
		{[]string{}, Conditions{}, ""},
		{[]string{"header:region=eu"}, Conditions{{"region", "eu"}}, ""},
		{[]string{"header:b=2", "header:a=x=y,z;", "header:b=1", "header:b=2"}, Conditions{{"a", "x=y,z;"}, {"b", "1"}, {"b", "2"}}, ""},
		{[]string{"region=eu"}, nil, `"region=eu": want header:NAME=VALUE, such as header:region=eu`},
		{[]string{"header:region"}, nil, "want header:NAME=VALUE"},
		{[]string{"Header:region=eu"}, nil, "want header:NAME=VALUE"},
		{[]string{""}, nil, "want header:NAME=VALUE"},
		{[]string{"header:=eu"}, nil, "name the record header"},
		{[]string{"header: region=eu"}, nil, "name the record header"},
		{[]string{"header:region="}, nil, "give the header's value"},
		{[]string{"header:region=\xff"}, nil, "it is not UTF-8"},
		{make([]string, maxConditions+1), nil, "21 conditions: want at most 20"},
	} {
		got, err := ParseConditions(test.texts)
		if diff := cmp.Diff(test.want, got); diff != "" || (err == nil) != (test.wrong == "") || err != nil && !strings.Contains(err.Error(), test.wrong) {
			t.Errorf("%q: %v (-want +got):\n%s", test.texts, err, diff)
		}
	}
}

func TestConditionsAreMet(t *testing.T) {
	headers := func(pairs ...string) *batch.Record {
		r := new(batch.Record)
		for pair := range slices.Chunk(pairs, 2) {
			r.Headers = append(r.Headers, Header{Key: pair[0], Value: []byte(pair[1])})
		}
		return r
	}
	null := &batch.Record{Headers: []Header{{Key: "region", Value: []byte("eu")}, {Key: "region"}}}
	for _, test := range []struct {
		conditions []string
		record     *batch.Record
		want       bool
	}{
		{nil, headers(), true},
		{[]string{}, headers("region", "eu"), false},
		{[]string{"header:region=eu"}, headers("region", "eu"), true},
		{[]string{"header:region=eu"}, headers("region", "us"), false},
		{[]string{"header:region=eu"}, headers("region", "eu "), false},
		{[]string{"header:region=eu"}, headers("Region", "eu"), false},
		{[]string{"header:region=eu"}, headers("region", ""), false},
		{[]string{"header:region=eu"}, headers(), false},
		{[]string{"header:region=eu"}, null, false},
		{[]string{"header:region=eu"}, headers("region", "us", "region", "eu"), true},
		{[]string{"header:region=eu"}, headers("region", "eu", "region", "us"), false},
		{[]string{"header:region=eu", "header:region=us"}, headers("region", "us"), true},
		{[]string{"header:region=eu", "header:kind=a", "header:region=us"}, headers("region", "us", "kind", "a"), true},
		{[]string{"header:region=eu", "header:kind=a", "header:region=us"}, headers("region", "us", "kind", "b"), false},
		{[]string{"header:region=eu", "header:kind=a", "header:region=us"}, headers("kind", "a"), false},
	} {
		conditions, err := ParseConditions(test.conditions)
		if err != nil {
			t.Fatal(err)
		}
		if got := conditions.AreMet(test.record); got != test.want {
			t.Errorf("%q, headers %v: %v, want %v", test.conditions, test.record.Headers, got, test.want)
		}
	}
}

// TestRouteLeavesOutRecords writes records to topics of each kind whose routes have a condition, among them an answer
// without a record to deliver. Live reading, the tail and passes over the log bring the records that meet it, and Herald
// counts the others as filtered, and none of them as a record that belongs to nobody.
func TestRouteLeavesOutRecords(t *testing.T) {
	t.Parallel()
	specs := []string{"keyed,where=header:region=eu", "headed,user=header:to,where=header:region=eu", "own.{user},where=header:region=eu", "all,kind=broadcast,where=header:region=eu"}
	_, c, sink, producer := startOn(t, []kfake.Opt{kfake.SeedTopics(1, "keyed", "headed", "own.alice", "all")}, nil, specs...)
	ready(t, c)
	if _, err := c.Join(t.Context(), "alice"); err != nil {
		t.Fatal(err)
	}
	topics := []string{"keyed", "headed", "own.alice", "all"}
	const records = 40
	for i := range records {
		for _, topic := range topics {
			m := Message{Topic: topic, Key: []byte("alice"), Value: fmt.Append(nil, i), Headers: []Header{{Key: "to", Value: []byte("alice")}}}
			switch i % 4 {
			case 0:
				m.Headers = append(m.Headers, Header{Key: "region", Value: []byte("eu")})
			case 1:
				m.Headers = append(m.Headers, Header{Key: "region", Value: []byte("us")})
			case 2:
				m.Key, m.Headers = nil, nil // for nobody, if it were not left out
			}
			if _, err := producer.Produce(t.Context(), m); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := len(sink.sorted(t, len(topics)*records/4)); n != len(topics)*records/4 {
		t.Errorf("%d live records", n)
	}
	if n := hear(t, c).count("WARN record belongs to no user"); n != 0 {
		t.Errorf("%d lines about records that belong to nobody", n)
	}
	for _, topic := range []string{"keyed", "headed", "own.{user}", "all"} {
		waitFor(t, "the left-out records are counted", func() bool {
			return testutil.ToFloat64(c.metrics.filtered.WithLabelValues(topic)) == records*3/4
		})
	}
	for _, from := range []string{"the tail", "passes"} {
		for _, topic := range topics {
			p := Partition{Topic: topic, ID: 0}
			waitFor(t, "all is read", func() bool { next, _ := c.reader.livePartition(p).position(); return next == records })
			if from == "passes" {
				forgetTail(t, c, p)
			}
			var got []int64
			next, err := replayOne(t.Context(), c, p, topicID(t, c, topic), "alice", 0, records, func(r *Record) bool {
				got = append(got, r.Offset)
				return true
			})
			if diff := cmp.Diff([]int64{0, 4, 8, 12, 16, 20, 24, 28, 32, 36}, got); diff != "" || next != records || err != nil {
				t.Errorf("%s by %s: next %d, %v (-want +got):\n%s", topic, from, next, err, diff)
			}
		}
	}
}

// TestMessageForMeetsTheCondition makes messages for routes with conditions. A message has the header that its route wants,
// and goes to the first route that its other headers do not contradict.
func TestMessageForMeetsTheCondition(t *testing.T) {
	var list []Route
	for _, spec := range []string{"orders,where=header:event-type=order", "eu,user=header:to,where=header:region=eu", "rest"} {
		r, err := ParseRoute(spec)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, r)
	}
	for _, test := range []struct{ headers, topic, want string }{
		{"", "orders", "event-type=order"},
		{"event-type=order", "orders", "event-type=order event-type=order"},
		{"event-type=news", "eu", "to=alice region=eu event-type=news"},
		{"event-type=news region=us", "rest", "event-type=news region=us"},
		{"event-type=news to=bob", "rest", "event-type=news to=bob"},
	} {
		var given []Header
		for pair := range strings.FieldsSeq(test.headers) {
			key, value, _ := strings.Cut(pair, "=")
			given = append(given, Header{Key: key, Value: []byte(value)})
		}
		m, ok := MessageFor(list, "alice", given...)
		var got []string
		for _, h := range m.Headers {
			got = append(got, h.Key+"="+string(h.Value))
		}
		if text := strings.Join(got, " "); !ok || m.Topic != test.topic || text != test.want {
			t.Errorf("with %q: topic %s with %q, %v; want %s with %q", test.headers, m.Topic, text, ok, test.topic, test.want)
		}
	}
}
