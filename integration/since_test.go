package integration

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// writeAged writes to each partition a record of alice of two hours ago and then one of ten minutes ago, and
// returns when the latter was.
func (b *broker) writeAged(t *testing.T, topic string, partitions int32) (young time.Time) {
	t.Helper()
	young = time.Now().Add(-10 * time.Minute).Truncate(time.Millisecond)
	for p := range partitions {
		old, recent := inPartition(p, record(topic, "alice", "old")), inPartition(p, record(topic, "alice", "young"))
		old.Timestamp, recent.Timestamp = young.Add(-2*time.Hour), young
		b.produce(t, old, recent)
	}
	return young
}

// beginningAt opens a stream of alice that begins by the parameter since.
func beginningAt(t *testing.T, h *herald, since string) *eventSource {
	t.Helper()
	s := newStream(t, h.public, "alice")
	s.url += "&since=" + since
	s.Connect()
	s.Checkpoint()
	return s
}

// TestSince begins streams in the past.
func TestSince(t *testing.T) {
	b := sharedBroker(t)
	topic := b.newTopic(t, "shared", 2)
	young := b.writeAged(t, topic, 2)
	h := startHerald(t, b, "--topic="+topic)
	utc := func(at time.Time) string { return at.UTC().Format(time.RFC3339Nano) }
	for since, want := range map[string][]string{
		"earliest":                       {"old", "old", "young", "young"},
		"1h":                             {"young", "young"},
		utc(young):                       {"young", "young"},
		utc(young.Add(time.Millisecond)): nil,
		utc(young.Add(24 * time.Hour)):   nil,
	} {
		s := beginningAt(t, h, since)
		for p := range int32(2) {
			b.produce(t, inPartition(p, record(topic, "alice", "end of "+since)))
		}
		var got []string
		for ends := 0; ends < 2; {
			switch value := s.Record().Data; {
			case value == "end of "+since:
				ends++
			case !strings.HasPrefix(value, "end of "): // of the streams before
				got = append(got, value)
			}
		}
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("since %s (-want +got):\n%s", since, diff)
		}
		s.Cut()
	}
}

// testSinceWithoutALeader begins a stream in the past while the only broker of one of two partitions does not
// answer. The records of the other partition must arrive. The client then reconnects. When the broker answers, the
// client must receive the records of the first partition from the requested time, not all records of the
// partition.
func testSinceWithoutALeader(t *testing.T) {
	c := sharedCluster(t)
	topic := c.newTopic(t, "shared", 2)
	n, other := c.nodes[0], c.nodes[1]
	c.moveLeader(t, topic, 0, n)
	c.moveLeader(t, topic, 1, other)
	c.assign(t, topic, 0, n.id)
	c.writeAged(t, topic, 2)
	h := startHerald(t, &c.broker, "--topic="+topic)
	c.pause(t, n)
	s := beginningAt(t, h, "1h")
	if got := s.Record(); got.Data != "young" || !strings.Contains(got.ID, ".0-1t.") || !strings.Contains(got.ID, ".1-1") {
		t.Errorf("got %+v, want the younger record of partition 1 and partition 0 to be sought", got)
	}
	s.Reconnect()
	c.unpause(t, n)
	if got := s.Record(); got.Data != "young" || !strings.HasSuffix(got.ID, ".0-1.1-1") {
		t.Errorf("got %+v, want the younger record of partition 0", got)
	}
	for p := range int32(2) {
		c.produce(t, inPartition(p, record(topic, "alice", "end")))
		if got := s.Record().Data; got != "end" {
			t.Errorf("got %q, want what was written last", got)
		}
	}
}
