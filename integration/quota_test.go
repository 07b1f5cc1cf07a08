package integration

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// quotaOf sets the bytes per second that clients called herald may read; 0 removes the quota.
func (b *broker) quotaOf(t *testing.T, rate float64) {
	t.Helper()
	req := kmsg.NewPtrAlterClientQuotasRequest()
	entry := kmsg.NewAlterClientQuotasRequestEntry()
	entity := kmsg.NewAlterClientQuotasRequestEntryEntity()
	entity.Type, entity.Name = "client-id", new("herald")
	op := kmsg.NewAlterClientQuotasRequestEntryOp()
	op.Key, op.Value, op.Remove = "consumer_byte_rate", rate, rate == 0
	entry.Entity, entry.Ops = append(entry.Entity, entity), append(entry.Ops, op)
	req.Entries = append(req.Entries, entry)
	res, err := req.RequestWith(t.Context(), b.producer)
	if err != nil {
		t.Fatalf("set quota: %v", err)
	}
	if err := kerr.ErrorForCode(res.Entries[0].ErrorCode); err != nil {
		t.Fatalf("set quota: %v", err)
	}
}

// TestQuotaOnlySlowsDown replays under a quota, with which the broker answers fetches without records for seconds
// (KIP-219). All records must arrive, and herald must not report a loss.
func TestQuotaOnlySlowsDown(t *testing.T) {
	b := sharedBroker(t)
	b.ownContainer(t, "a replay under a client quota")
	topic := b.newTopic(t, "shared", 1)
	h := startHerald(t, b, "--topic="+topic, "--heartbeat=1s")
	alice := openStream(t, h, "alice")
	alice.Cut()
	var want []string
	padding := strings.Repeat("x", 10_000)
	for i := range 100 {
		want = append(want, fmt.Sprintf("%d %s", i, padding))
		b.produce(t, record(topic, "alice", want[i]))
	}
	b.quotaOf(t, 200_000)
	defer b.quotaOf(t, 0)
	alice.Reconnect()
	if diff := cmp.Diff(want, alice.Values(len(want))); diff != "" {
		t.Errorf("(-want +got):\n%.500s", diff)
	}
}
