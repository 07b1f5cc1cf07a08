package consumer

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
)

// TestContractDeliveredPositionMovedBackIsRepaired checks that a replica commits its delivered position
// again after another replica, at the same time, committed a lower position of the same topic last.
func TestContractDeliveredPositionMovedBackIsRepaired(t *testing.T) {
	k := newContract(t)
	at := Partition{Topic: k.topic(t, "own.alice", 1), ID: 0}
	one, other := k.delivered(t), k.delivered(t)
	committed := func() int64 {
		t.Helper()
		offsets, err := one.fetchCommitted(t.Context(), map[Partition]int64{at: 0})
		if err != nil {
			t.Fatal(err)
		}
		return offsets[at]
	}
	flush := func(d *deliveredPositions) {
		t.Helper()
		if err := d.flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}

	one.record(at, deliveredPosition{next: 1})
	for deadline := time.Now().Add(time.Minute); one.flush(t.Context()) != nil; pause(t.Context(), metadataRetry) {
		if time.Now().After(deadline) {
			t.Fatal("no position was committed in a minute") // a new cluster takes a while to have a coordinator
		}
	}
	slow := map[Partition]int64{at: 5}
	seen, err := one.fetchCommitted(t.Context(), slow)
	if err != nil {
		t.Fatal(err)
	}
	other.record(at, deliveredPosition{next: 9})
	flush(other)
	if err := one.commit(t.Context(), slow, seen); err != nil {
		t.Fatal(err)
	}
	if got := committed(); got != 5 {
		t.Fatalf("the committed position is %d, but this test needs 5 to be committed after 9", got)
	}
	later := time.Now()
	for len(other.checks) > 0 || committed() != 9 {
		if later = later.Add(2 * lastCheckAfter); later.After(time.Now().Add(time.Hour)) {
			t.Fatalf("the committed position is %d, want 9; %d positions remain to be checked", committed(), len(other.checks))
		}
		if err := other.checkCommitted(t.Context(), later); err != nil {
			t.Fatal(err)
		}
		flush(other)
	}

	other.record(at, deliveredPosition{next: 12})
	flush(other)
	other.record(at, deliveredPosition{next: 7}) // another device of the user is not as far
	flush(other)
	if got := committed(); got != 12 || other.checks[at].next != 12 {
		t.Errorf("the committed position is %d and the check expects %d, want 12 for both", got, other.checks[at].next)
	}
}

// TestPositionsOfARecreatedTopicAreNotCommitted checks that only the position in the new topic is committed
// when a topic is deleted and created again while its records are delivered.
func TestPositionsOfARecreatedTopicAreNotCommitted(t *testing.T) {
	k := newContract(t)
	at := Partition{Topic: k.topic(t, "own.alice", 1), ID: 0}
	d := k.delivered(t)
	before, now := [16]byte{1}, [16]byte{2}
	id := before
	d.topicID = func(string) [16]byte { return id }
	d.record(at, deliveredPosition{before, 100})
	id = now
	if err := d.flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.mu.Lock()
	d.recordLocked(at, deliveredPosition{before, 101}) // as if record had read the topic's ID before the ID changed
	d.mu.Unlock()
	d.record(at, deliveredPosition{now, 3})
	if err := d.flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	got, err := d.fetchCommitted(t.Context(), map[Partition]int64{at: 0})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[Partition]int64{at: 3}, got); diff != "" {
		t.Errorf("committed offsets (-want +got):\n%s", diff)
	}
}

// delivered returns the delivered positions of a replica that does not run.
func (k *contract) delivered(t *testing.T) *deliveredPositions {
	t.Helper()
	c := configured(t, k.addresses, newLedger(), "own.{user}", "group="+k.run+"group")
	t.Cleanup(c.cluster.Close)
	return c.delivered
}

// TestPositionOfADeletedTopicIsNotCommittedAgain checks that a replica does not repair a committed position
// whose topic was deleted.
func TestPositionOfADeletedTopicIsNotCommittedAgain(t *testing.T) {
	k := newContract(t)
	topic := k.topic(t, "own.alice", 1)
	at := Partition{Topic: topic, ID: 0}
	d := k.delivered(t)
	d.record(at, deliveredPosition{next: 9})
	if err := d.flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	k.deleteTopic(t, topic)
	if _, err := k.admin.DeleteOffsets(t.Context(), d.group, kadm.TopicsSet{topic: {0: {}}}); err != nil {
		t.Fatal(err) // Kafka deletes the offsets itself, but at a time of its own
	}
	if err := d.checkCommitted(t.Context(), time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if len(d.dirty) > 0 || len(d.checks) > 0 {
		t.Errorf("positions to commit %v, positions to check %v, want none of either", d.dirty, d.checks)
	}
}
