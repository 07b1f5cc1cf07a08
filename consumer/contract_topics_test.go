package consumer

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
)

// TestContractAddedPartitionsAreRead checks that records of partitions added to a topic arrive.
func TestContractAddedPartitionsAreRead(t *testing.T) {
	k := newContract(t)
	topic := k.topic(t, "t", 1)
	_, sink := k.read(t, "t")
	if answer, err := k.admin.CreatePartitions(t.Context(), 3, topic); err != nil || answer.Error() != nil {
		t.Fatal(err, answer.Error())
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		found, err := k.admin.ListTopics(t.Context(), topic)
		if err == nil && len(found[topic].Partitions) == 4 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the topic has %d partitions, want 4: %v", len(found[topic].Partitions), err)
		}
	}
	client := k.connect(t) // k.client may still know only one partition
	var want []string
	for p := range int32(4) {
		want = append(want, k.write(t, client, topic, p, "alice", fmt.Sprint("in ", p))...)
	}
	sink.wantLines(t, want)
}

// TestContractRecreatedTopicIsReportedAndRead checks that the sink receives a gap for a topic that was
// deleted and created again, and all records of the new topic.
func TestContractRecreatedTopicIsReportedAndRead(t *testing.T) {
	k := newContract(t)
	topic, other := k.topic(t, "t", 1), k.topic(t, "other", 1)
	_, sink := k.read(t, "t", "other")
	sink.wantLines(t, k.write(t, k.client, topic, 0, "alice", "0 old", "1 old", "2 old"))
	k.deleteTopic(t, topic)
	k.topic(t, "t", 1)
	client := k.connect(t) // k.client still knows the old topic
	k.write(t, client, topic, 0, "alice", "3 new", "4 new")
	k.write(t, k.client, other, 0, "alice", "5 other")
	if diff := cmp.Diff([]string{"alice 0 old", "alice 1 old", "alice 2 old", "alice 3 new", "alice 4 new", "alice 5 other"}, sink.sorted(t, 6)); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
	if gap := sink.waitGap(t); gap.Reason != GapRecreated || len(sink.gaps) != 1 {
		t.Errorf("gaps %+v, want one: %s", sink.gaps, GapRecreated)
	}
}

// TestContractDeletedTopicDoesNotStopOthers checks that records of other topics arrive while a topic is
// deleted, and that the topic is read once it is created again.
func TestContractDeletedTopicDoesNotStopOthers(t *testing.T) {
	k := newContract(t)
	topic, other := k.topic(t, "t", 1), k.topic(t, "other", 1)
	_, sink := k.read(t, "t", "other")
	want := k.write(t, k.client, topic, 0, "alice", "0")
	sink.wantLines(t, want)
	k.deleteTopic(t, topic)
	for i := range 3 {
		want = append(want, k.write(t, k.client, other, 0, "alice", fmt.Sprint(i+1))...)
		sink.wantLines(t, want)
		pause(t.Context(), turnInterval)
	}
	k.topic(t, "t", 1)
	k.write(t, k.connect(t), topic, 0, "alice", "4, of the new one")
	sink.sorted(t, 5)
}

func (k *contract) deleteTopic(t *testing.T, topic string) {
	t.Helper()
	if _, err := k.admin.DeleteTopic(t.Context(), topic); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		found, err := k.admin.ListTopics(t.Context(), topic)
		if err == nil && !found.Has(topic) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("topic %s is still there: %v", topic, err)
		}
	}
}

// TestContractKafkasToolsShowOffsetsAndLag checks the committed offsets and the lag of Herald's groups as
// Kafka's tools show them.
func TestContractKafkasToolsShowOffsetsAndLag(t *testing.T) {
	k := newContract(t)
	topic, own := k.topic(t, "t", 2), k.topic(t, "own.alice", 1)
	c, sink := k.read(t, "t", "own.{user}")
	if _, err := c.Join(t.Context(), "alice"); err != nil {
		t.Fatal(err)
	}
	group := k.run + "group"
	k.write(t, k.client, topic, 1, "alice", "0", "1")
	k.write(t, k.client, own, 0, "alice", "2", "3", "4")
	sink.sorted(t, 5)
	c.Delivered(Partition{Topic: own, ID: 0}, c.topics.idOf(own), 2)
	for name, want := range map[string]map[Partition]int64{
		group + ".one":       {{Topic: topic, ID: 0}: 0, {Topic: topic, ID: 1}: 2},
		group + ".delivered": {{Topic: own, ID: 0}: 2},
	} {
		var got map[Partition]int64
		for deadline := time.Now().Add(60 * time.Second); !cmp.Equal(want, got); time.Sleep(100 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Errorf("committed offsets of %s (-want +got):\n%s", name, cmp.Diff(want, got))
				break
			}
			offsets, err := k.admin.FetchOffsets(t.Context(), name)
			if err != nil {
				continue
			}
			got = make(map[Partition]int64)
			offsets.Each(func(o kadm.OffsetResponse) { got[Partition{Topic: o.Topic, ID: o.Partition}] = o.At })
		}
	}
	lags, err := k.admin.Lag(t.Context(), group+".one", group+".delivered")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]int64{group + ".one": 0, group + ".delivered": 1} {
		if lag := lags[name]; lag.Error() != nil || lag.Lag.Total() != want {
			t.Errorf("group %s has a lag of %d, want %d: %v", name, lag.Lag.Total(), want, lag.Error())
		}
	}
}
