package integration

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"
)

// source is a partition that a test writes numbered records to, as the value says: "NAME NUMBER".
type source struct {
	name   string
	record kgo.Record
}

// sourcesOf returns sources of each kind of route for alice: three partitions of a shared topic,
// her own topic and a broadcast topic.
func sourcesOf(shared, own, everyone string) []source {
	return []source{
		{"shared/0", kgo.Record{Topic: shared, Key: []byte("alice")}},
		{"shared/1", kgo.Record{Topic: shared, Key: []byte("alice"), Partition: 1}},
		{"shared/2", kgo.Record{Topic: shared, Key: []byte("alice"), Partition: 2}},
		{"own", kgo.Record{Topic: own + ".alice"}},
		{"everyone", kgo.Record{Topic: everyone}},
	}
}

// startWithSources starts herald with a route of each kind and returns alice's sources and the
// shared topic's name.
func startWithSources(t *testing.T, b *broker) (h *herald, sources []source, shared string) {
	t.Helper()
	shared, everyone, own := b.newTopic(t, "shared", 3), b.newTopic(t, "everyone", 1), topicName(t, "own")
	b.createTopic(t, own+".alice", 1)
	h = startHerald(t, b, "--topic="+shared, "--topic="+own+".{user}", "--topic="+everyone+",kind=broadcast")
	return h, sourcesOf(shared, own, everyone), shared
}

// write writes record number n to the source.
func (b *broker) write(t *testing.T, s source, n int) {
	t.Helper()
	r := s.record
	r.Value = fmt.Appendf(nil, "%s %d", s.name, n)
	b.produce(t, &r)
}

// inOrder counts the records received from each source. A record with any number but the next is an error.
type inOrder map[string]int

func (o inOrder) add(t *testing.T, value string) {
	t.Helper()
	var name string
	var n int
	if _, err := fmt.Sscan(value, &name, &n); err != nil {
		t.Fatalf("got %q, which is not a numbered value of this test", value)
	}
	if n != o[name] {
		t.Errorf("got %s, want number %d: a record is missing, repeated or out of order", value, o[name])
	}
	o[name] = n + 1
}

// check wants each records from each of the sources, and from no other.
func (o inOrder) check(t *testing.T, sources []source, each int) {
	t.Helper()
	want := inOrder{}
	for _, s := range sources {
		want[s.name] = each
	}
	if diff := cmp.Diff(want, o); diff != "" {
		t.Errorf("records received (-want +got):\n%s", diff)
	}
}
