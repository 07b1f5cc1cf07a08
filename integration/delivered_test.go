package integration

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestUnseenNotificationsOnAnotherDevice reads some of a user's own notifications on one device. Kafka's tools must
// then show how many notifications are unseen. Another device that asks for since=delivered must receive exactly the
// unseen notifications, from another replica too.
func TestUnseenNotificationsOnAnotherDevice(t *testing.T) {
	t.Parallel()
	b := sharedBroker(t)
	own := topicName(t, "own")
	b.createTopic(t, own+".alice", 1)
	h := startHerald(t, b, "--topic="+own+".{user}")
	group := ""
	for _, arg := range h.args {
		if name, ok := strings.CutPrefix(arg, "--group="); ok {
			group = name + ".delivered"
		}
	}
	first := openStream(t, h, "alice")
	b.produce(t, record(own+".alice", "", "0"), record(own+".alice", "", "1"))
	first.Values(2)
	first.Cut()
	h.waitForNoStream()
	b.produce(t, record(own+".alice", "", "2"), record(own+".alice", "", "3"), record(own+".alice", "", "4"))
	waitUnseen(t, b, group, 3)
	second := newStream(t, h.public, "alice")
	second.url += "&since=delivered"
	second.Connect()
	if diff := cmp.Diff([]string{"2", "3", "4"}, second.Values(3)); diff != "" {
		t.Errorf("another device (-want +got):\n%s", diff)
	}
	second.Cut()
	waitUnseen(t, b, group, 0)
	other := startHerald(t, b, "--topic="+own+".{user}", "--group="+strings.TrimSuffix(group, ".delivered"), "--replica=other")
	s := newStream(t, other.public, "alice")
	s.url += "&since=delivered"
	s.Connect()
	s.Checkpoint()
	b.produce(t, record(own+".alice", "", "5"))
	if got := s.Record().Data; got != "5" {
		t.Errorf("the other replica sent %q, want only the record that no device has received", got)
	}
}

// waitUnseen waits until Kafka's tools show that want notifications are unseen.
func waitUnseen(t *testing.T, b *broker, group string, want int64) {
	t.Helper()
	var got int64
	describe := func() string { return fmt.Sprintf("group %s shows %d unseen, want %d", group, got, want) }
	waitWithin(t, 2*patience, describe, func(ctx context.Context) bool {
		got = unseen(ctx, b, group)
		return got == want
	})
}

// unseen returns the group's lag as Kafka's tools show it, or -1 if the lag is not known.
func unseen(ctx context.Context, b *broker, group string) int64 {
	lags, err := b.admin.Lag(ctx, group)
	if err != nil {
		return -1
	}
	lag := lags[group]
	if lag.Error() != nil {
		return -1
	}
	return lag.Lag.Total()
}
