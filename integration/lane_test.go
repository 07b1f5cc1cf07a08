package integration

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"
)

// lane is a partition to which a test writes numbered records. Their values are "NAME NUMBER".
type lane struct {
	name      string
	topic     string
	partition int32
	keys      []string     // keys of the records, in turn; none: null keys
	written   atomic.Int64 // Kafka has acknowledged all records with lower numbers; used by traffic
}

// of reports whether records of the lane are for the user.
func (l *lane) of(user string) bool { return slices.Contains(l.keys, user) || l.key(0) == "" }

// record returns record number n of the lane. Its key is null if the lane has none.
func (l *lane) record(n int) *kgo.Record {
	r := inPartition(l.partition, record(l.topic, l.key(n), fmt.Sprintf("%s %d", l.name, n)))
	if len(l.keys) == 0 {
		r.Key = nil
	}
	return r
}

func (l *lane) key(n int) string {
	if len(l.keys) == 0 {
		return ""
	}
	return l.keys[n%len(l.keys)]
}

// startWithLanes starts herald with the arguments and a route of each kind. It returns lanes with records for alice (three
// partitions of a shared topic, alice's own topic, and a broadcast topic) and the name of the shared topic.
func startWithLanes(t *testing.T, b *broker, args ...string) (h *herald, lanes []*lane, shared string) {
	t.Helper()
	shared, everyone, own := b.newTopic(t, "shared", 3), b.newTopic(t, "everyone", 1), topicName(t, "own")
	b.createTopic(t, own+".alice", 1)
	h = startHerald(t, b, append(args, "--topic="+shared, "--topic="+own+".{user}", "--topic="+everyone+",kind=broadcast")...)
	return h, []*lane{
		{name: "shared/0", topic: shared, keys: []string{"alice"}},
		{name: "shared/1", topic: shared, partition: 1, keys: []string{"alice"}},
		{name: "shared/2", topic: shared, partition: 2, keys: []string{"alice"}},
		{name: "own", topic: own + ".alice"},
		{name: "everyone", topic: everyone},
	}, shared
}

// inOrder counts the records received from each lane. A record with any number but the next is an error.
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

// check fails the test unless each lane has sent its first count records, and no other lane has sent any.
func (o inOrder) check(t *testing.T, lanes []*lane, count int) {
	t.Helper()
	want := inOrder{}
	for _, l := range lanes {
		want[l.name] = count
	}
	if diff := cmp.Diff(want, o); diff != "" {
		t.Errorf("records received (-want +got):\n%s", diff)
	}
}
