package consumer

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
)

// TestContractDelivered has two replicas commit how far a user's topic was delivered at the same time,
// so that the lower position comes last: it is mended.
func TestContractDelivered(t *testing.T) {
	k := newContract(t)
	at := Partition{Topic: k.topic(t, "own.alice", 1), ID: 0}
	one, other := k.delivered(t), k.delivered(t)
	committed := func() int64 {
		t.Helper()
		offsets, err := one.fetch(t.Context(), map[Partition]int64{at: 0})
		if err != nil {
			t.Fatal(err)
		}
		return offsets[at]
	}
	flush := func(d *delivered) {
		t.Helper()
		if err := d.flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}

	deliver(one, at, mark{next: 1})
	for deadline := time.Now().Add(time.Minute); one.flush(t.Context()) != nil; pause(t.Context(), metadataRetry) {
		if time.Now().After(deadline) {
			t.Fatal("no position was committed in a minute") // a new cluster's coordinator takes a while
		}
	}
	slow := map[Partition]int64{at: 5}
	seen, err := one.fetch(t.Context(), slow)
	if err != nil {
		t.Fatal(err)
	}
	deliver(other, at, mark{next: 9})
	flush(other)
	if err := one.commit(t.Context(), slow, seen); err != nil {
		t.Fatal(err)
	}
	if got := committed(); got != 5 {
		t.Fatalf("%d is committed, and the test is of a 9 that was overtaken by a 5", got)
	}
	later := time.Now()
	for len(other.checks) > 0 || committed() != 9 {
		if later = later.Add(2 * deliveredChecked); later.After(time.Now().Add(time.Hour)) {
			t.Fatalf("%d is committed, want 9, and %d positions are still to be looked at", committed(), len(other.checks))
		}
		if err := other.check(t.Context(), later); err != nil {
			t.Fatal(err)
		}
		flush(other)
	}

	deliver(other, at, mark{next: 12})
	flush(other)
	deliver(other, at, mark{next: 7}) // by another device
	flush(other)
	if got := committed(); got != 12 || other.checks[at].next != 12 {
		t.Errorf("%d is committed and %d is looked for, want 12 still", got, other.checks[at].next)
	}
}

// TestDeliveredOfATopicBefore does not take what was delivered of a topic for what was delivered of the
// one that was created again under its name.
func TestDeliveredOfATopicBefore(t *testing.T) {
	k := newContract(t)
	at := Partition{Topic: k.topic(t, "own.alice", 1), ID: 0}
	d := k.delivered(t)
	before, now := [16]byte{1}, [16]byte{2}
	id := before
	d.current = func(string) [16]byte { return id }
	deliver(d, at, mark{before, 100})
	id = now
	if err := d.flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	deliver(d, at, mark{before, 101}) // a write that took long
	deliver(d, at, mark{now, 3})
	if err := d.flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	got, err := d.fetch(t.Context(), map[Partition]int64{at: 0})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[Partition]int64{at: 3}, got); diff != "" {
		t.Errorf("committed offsets (-want +got):\n%s", diff)
	}
}

func deliver(d *delivered, p Partition, m mark) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.note(p, m)
}

// delivered is what a replica of the group commits, which does not run.
func (k *contract) delivered(t *testing.T) *delivered {
	t.Helper()
	c := configured(t, k.addresses, newLedger(), "own.{user}", "group="+k.run+"group")
	t.Cleanup(c.cluster.Close)
	return c.delivered
}

// TestDeliveredAndDeleted deletes a topic of which something was delivered: nothing is committed again.
func TestDeliveredAndDeleted(t *testing.T) {
	k := newContract(t)
	topic := k.topic(t, "own.alice", 1)
	at := Partition{Topic: topic, ID: 0}
	d := k.delivered(t)
	deliver(d, at, mark{next: 9})
	if err := d.flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	k.deleteTopic(t, topic)
	if _, err := k.admin.DeleteOffsets(t.Context(), d.group, kadm.TopicsSet{topic: {0: {}}}); err != nil {
		t.Fatal(err) // Kafka does that itself, in its own time
	}
	if err := d.check(t.Context(), time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if len(d.dirty) > 0 || len(d.checks) > 0 {
		t.Errorf("to be committed %v, to be looked at %v, want neither", d.dirty, d.checks)
	}
}
