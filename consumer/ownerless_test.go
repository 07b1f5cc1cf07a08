package consumer

import (
	"bytes"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kfake"

	"herald/consumer/batch"
)

// ownerlessTests are records of topics of each kind, by route, with the reason for which no user can ever get each
// record; "": a user can, or the record is a tombstone.
var ownerlessTests = map[string]map[string]struct {
	message Message
	reason  string
}{
	"keyed": {
		"good":                 {Message{Key: []byte("alice"), Value: []byte("v")}, ""},
		"good, begins oddly":   {Message{Key: []byte("_alice"), Value: []byte("v")}, ""},
		"as long as may be":    {Message{Key: bytes.Repeat([]byte("k"), 245), Value: []byte("v")}, ""},
		"too long for a topic": {Message{Key: bytes.Repeat([]byte("k"), 246), Value: []byte("v")}, "no-topic"},
		"no topic's name":      {Message{Key: []byte("日本"), Value: []byte("v")}, "no-topic"},
		"another's topic":      {Message{Key: []byte("all"), Value: []byte("v")}, "no-topic"},
		"tombstone":            {Message{}, ""},
		"no key":               {Message{Value: []byte("secret")}, "no-key"},
		"empty key":            {Message{Key: []byte{}, Value: []byte("secret")}, "empty"},
		"too long":             {Message{Key: bytes.Repeat([]byte("k"), 257), Value: []byte("v")}, "too-long"},
		"not UTF-8":            {Message{Key: []byte("secret\xff"), Value: []byte("v")}, "not-utf8"},
		"line break":           {Message{Key: []byte("secret\n"), Value: []byte("v")}, "control-character"},
		"C1":                   {Message{Key: []byte("secret\u0085"), Value: []byte("v")}, "control-character"},
	},
	"headed,user=header:to": {
		"good":           {Message{Value: []byte("v"), Headers: []Header{{Key: "to", Value: []byte("alice")}}}, ""},
		"the last one":   {Message{Value: []byte("v"), Headers: []Header{{Key: "to"}, {Key: "to", Value: []byte("alice")}}}, ""},
		"tombstone":      {Message{Key: []byte("k")}, ""},
		"none":           {Message{Key: []byte("alice"), Value: []byte("v"), Headers: []Header{{Key: "To", Value: []byte("alice")}}}, "no-header"},
		"null":           {Message{Value: []byte("v"), Headers: []Header{{Key: "to"}}}, "no-header"},
		"the last: null": {Message{Value: []byte("v"), Headers: []Header{{Key: "to", Value: []byte("alice")}, {Key: "to"}}}, "no-header"},
		"empty":          {Message{Value: []byte("v"), Headers: []Header{{Key: "to", Value: []byte{}}}}, "empty"},
		"not UTF-8":      {Message{Value: []byte("v"), Headers: []Header{{Key: "to", Value: []byte{0xc3}}}}, "not-utf8"},
		"NUL":            {Message{Value: []byte("v"), Headers: []Header{{Key: "to", Value: []byte("a\x00")}}}, "control-character"},
	},
	"json,user=json:/to": {
		"good":       {Message{Value: []byte(`{"to":"alice"}`)}, ""},
		"tombstone":  {Message{Key: []byte("k")}, ""},
		"no JSON":    {Message{Key: []byte("alice"), Value: []byte("alice")}, "not-json"},
		"nothing":    {Message{Value: []byte{}}, "not-json"},
		"no field":   {Message{Value: []byte(`{"from":"alice"}`)}, "no-field"},
		"an integer": {Message{Value: []byte(`{"to":1}`)}, ""},
		"a fraction": {Message{Value: []byte(`{"to":1.5}`)}, "wrong-type"},
		"empty":      {Message{Value: []byte(`{"to":""}`)}, "empty"},
		"too long":   {Message{Value: []byte(`{"to":"` + strings.Repeat("k", 257) + `"}`)}, "too-long"},
		"line break": {Message{Value: []byte(`{"to":"a\nb"}`)}, "control-character"},
	},
	"teams,claim=team": {
		"a team that has no topic": {Message{Key: []byte("a/b"), Value: []byte("v")}, ""},
		"no key":                   {Message{Value: []byte("v")}, "no-key"},
		"empty":                    {Message{Key: []byte{}, Value: []byte("v")}, "empty"},
		"too long":                 {Message{Key: bytes.Repeat([]byte("k"), 257), Value: []byte("v")}, "too-long"},
	},
	"framed,user=json:/to,format=confluent-json": {
		"good":      {Message{Value: []byte("\x00\x00\x00\x00\x01" + `{"to":"alice"}`)}, ""},
		"tombstone": {Message{Key: []byte("k")}, ""},
		"no field":  {Message{Value: []byte("\x00\x00\x00\x00\x01" + `{"from":"alice"}`)}, "no-field"},
		"no frame":  {Message{Value: []byte(`{"to":"secret"}`)}, "undecodable"},
		"no JSON":   {Message{Value: []byte("\x00\x00\x00\x00\x01secret")}, "undecodable"},
	},
	"own.{user}":             {"any": {Message{Topic: "own.alice", Value: []byte("v")}, ""}},
	"own.all,kind=broadcast": {"any": {Message{Value: []byte("v")}, ""}, "tombstone": {Message{}, ""}},
}

// TestOwnerlessRecordsAreCountedOnce writes the records of ownerlessTests before and while a consumer reads. The
// consumer counts each record read live that no user can ever get, by reason. It counts no record of the look-back,
// and no record again that a replay reads. It logs one line for each topic, without key and value.
func TestOwnerlessRecordsAreCountedOnce(t *testing.T) {
	t.Parallel()
	broker := newBroker(t, kfake.SeedTopics(1, "keyed", "headed", "json", "teams", "framed", "own.all", "own.alice"))
	producer := NewProducer(broker.ListenAddrs(), nil, nil)
	t.Cleanup(producer.Close)
	want, written := make(map[string]float64), 0
	writeAll := func() {
		for route, tests := range ownerlessTests {
			topic, _, _ := strings.Cut(route, ",")
			for _, test := range tests {
				if test.message.Topic == "" {
					test.message.Topic = topic
				}
				if _, err := producer.Produce(t.Context(), test.message); err != nil {
					t.Fatal(err)
				}
				written++
				if test.reason != "" {
					want["herald_kafka_ownerless_records_total{"+test.reason+","+topic+"}"]++
				}
			}
		}
	}
	writeAll()
	clear(want)
	written = 0
	sink := newLedger()
	c := configured(t, broker.ListenAddrs(), sink, slices.Collect(maps.Keys(ownerlessTests))...)
	m := &meter{t: t, reg: prometheus.NewRegistry()}
	m.reg.MustRegister(c.metrics.ownerless)
	maps.Copy(want, m.series())
	if n := 6 + 6 + 8 + 5 + 9; len(want) != n {
		t.Errorf("%d series from the start, want %d: %v", len(want), n, want)
	}
	run(t, c)
	if _, err := c.Join(t.Context(), "alice"); err != nil {
		t.Fatal(err)
	}
	writeAll()
	sink.sorted(t, written)
	if diff := cmp.Diff(want, m.series()); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
	for _, topic := range []string{"keyed", "headed", "json", "teams", "framed"} {
		p := Partition{Topic: topic, ID: 0}
		next, _ := c.reader.livePartition(p).position()
		forgetTail(t, c, p)
		if _, err := replayOne(t.Context(), c, p, topicID(t, c, topic), "alice", 0, next, func(*Record) bool { return true }); err != nil {
			t.Fatal(err)
		}
		if n := hear(t, c).count("WARN record belongs to no user and is left out; … topic=" + topic + " partition=0 offset=… reason=… records=1"); n != 1 {
			t.Errorf("%d lines about the topic %s, want 1", n, topic)
		}
	}
	if diff := cmp.Diff(want, m.series()); diff != "" {
		t.Errorf("counts after replays (-want +got):\n%s", diff)
	}
	if lines := strings.Join(hear(t, c).all(), "\n"); strings.Contains(lines, "secret") {
		t.Errorf("the log has a key or a value:\n%s", lines)
	}
}

// TestOwnerlessRecordsAreLoggedOnceAMinute checks that a topic's ownerless records make a line a minute, with their
// number so far, and that another topic has lines of its own.
func TestOwnerlessRecordsAreLoggedOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var text bytes.Buffer
		counts := newOwnerlessRecords(routes{{Topic: "a"}, {Topic: "b"}, {Topic: "c", UserPointer: "/to"}, {Topic: "all", Kind: Broadcast}, {Topic: "own.{user}", Kind: PerUser}},
			newMetrics(nil), slog.New(slog.NewTextHandler(&text, nil)))
		write := func(topic string, offsets ...int64) {
			for _, offset := range offsets {
				counts[topic].count(Partition{Topic: topic, ID: 7}, &Record{Record: batch.Record{Offset: offset, Value: []byte(`{"to":{}}`)}})
			}
		}
		write("a", 0, 1, 2)
		write("b", 0)
		write("c", 0)
		time.Sleep(ownerlessPeriod - time.Second)
		write("a", 3)
		time.Sleep(time.Second)
		write("a", 4, 5)
		var got []string
		for line := range strings.Lines(text.String()) {
			_, facts, _ := strings.Cut(line, "topic=")
			got = append(got, strings.TrimSpace(facts))
		}
		want := []string{
			"a partition=7 offset=0 reason=no-key records=1", "b partition=7 offset=0 reason=no-key records=1",
			`c partition=7 offset=0 reason=wrong-type found="an object" records=1`,
			"a partition=7 offset=4 reason=no-key records=5",
		}
		if diff := cmp.Diff(want, got); diff != "" || len(counts) != 3 {
			t.Errorf("%d topics are counted, want 3; lines (-want +got):\n%s", len(counts), diff)
		}
	})
}

// TestPlainNamesAreOfPrintableASCII checks isPlainName with each byte at each place of names of many lengths.
func TestPlainNamesAreOfPrintableASCII(t *testing.T) {
	for _, length := range []int{0, 1, 7, 8, 9, 15, 16, 17, 36, 256, 257} {
		name := bytes.Repeat([]byte("a"), length)
		if got, want := isPlainName(name), length > 0 && length <= 256; got != want {
			t.Errorf("%d bytes: %v, want %v", length, got, want)
		}
		for i := range min(length, 256) {
			for c := range 256 {
				name[i] = byte(c)
				if got, want := isPlainName(name), length <= 256 && c >= ' ' && c <= '~'; got != want {
					t.Fatalf("%q: %v, want %v", name, got, want)
				}
				if isPlainName(name) && nameFault(name) != "" {
					t.Fatalf("%q is plain and has the fault %s", name, nameFault(name))
				}
			}
			name[i] = 'a'
		}
	}
}

// FuzzPlainNames checks that a name that the quick checks let pass is valid, alone and with topics of users.
func FuzzPlainNames(f *testing.F) {
	for _, name := range []string{"alice", "", "a@b", "..", ".", "__a", "_", "-a", "admin", "日本", "a\x7f", strings.Repeat("n", 247), strings.Repeat("n", 248)} {
		f.Add([]byte(name))
	}
	rs, err := newRoutes([]Route{{Topic: "shared"}, {Topic: "{user}.", Kind: PerUser}, {Topic: "admin."}})
	if err != nil {
		f.Fatal(err)
	}
	own := newOwnNames(rs)
	f.Fuzz(func(t *testing.T, name []byte) {
		if fault := nameFault(name); fault != "" && isPlainName(name) {
			t.Errorf("%q is plain and has the fault %s", name, fault)
		}
		if _, err := rs.userTopics(string(name)); (err != nil || nameFault(name) != "") && own.isPlain(name) {
			t.Errorf("%q is plain although no user can have the name: %v", name, err)
		}
	})
}

// BenchmarkMayCount measures the check that each record of a shared topic costs, without and with topics of users.
func BenchmarkMayCount(b *testing.B) {
	for check, o := range map[string]*ownerlessRecords{"shared": {}, "own": {names: newOwnNames(routes{{Topic: "n.{user}", Kind: PerUser}})}} {
		for _, name := range []string{"alice", "0191e0a4-7c1d-7e6a-9b52-3c5d6f7a8b9c"} {
			b.Run(fmt.Sprintf("%s/bytes=%d", check, len(name)), func(b *testing.B) {
				text := []byte(name)
				for b.Loop() {
					if o.mayCount(text) {
						b.Fatal("not plain")
					}
				}
			})
		}
	}
}
