package consumer

import (
	"context"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ask sends one request about a group to the only broker there is.
func ask[R kmsg.Response](t *testing.T, c *cluster, req kmsg.Request) R {
	t.Helper()
	res, err := c.request(t.Context(), anyBroker, req, nil)
	if err != nil {
		t.Fatal(err)
	}
	return res.(R)
}

func groupState(t *testing.T, c *cluster, group string) string {
	t.Helper()
	req := kmsg.NewPtrDescribeGroupsRequest()
	req.Version, req.Groups = 4, []string{group}
	return ask[*kmsg.DescribeGroupsResponse](t, c, req).Groups[0].State
}

func committed(t *testing.T, c *cluster, group, topic string) map[int32]int64 {
	t.Helper()
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Version, req.Group = 5, group
	offsets := make(map[int32]int64)
	for _, found := range ask[*kmsg.OffsetFetchResponse](t, c, req).Topics {
		for _, p := range found.Partitions {
			if found.Topic == topic {
				offsets[p.Partition] = p.Offset
			}
		}
	}
	return offsets
}

// TestGroupTellsHowFarItRead looks at the group as Kafka's tools do. When Run has returned, what was
// read is committed and the member is gone, so that nobody waits for its session to time out.
func TestGroupTellsHowFarItRead(t *testing.T) {
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, "shared"))
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	sink := newLedger()
	c, err := New(Config{Brokers: broker.ListenAddrs(), Group: "test", Replica: "one", Routes: []Route{{Topic: "shared"}}}, sink)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	tools := newCluster(broker.ListenAddrs(), nil, nil, time.Minute)
	defer tools.close()
	for start := time.Now(); groupState(t, tools, "test.one") != "Stable"; time.Sleep(10 * time.Millisecond) {
		if time.Since(start) > 20*time.Second {
			t.Fatalf("the group is %q", groupState(t, tools, "test.one"))
		}
	}
	producer := NewProducer(broker.ListenAddrs(), nil, nil)
	defer producer.Close()
	want := map[int32]int64{0: 0, 1: 0}
	for i := range 10 {
		pos := produce(t, producer, "shared", string(rune('a'+i)), "x")
		want[pos.ID] = pos.Offset + 1
	}
	sink.sorted(t, 10)
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	got := committed(t, tools, "test.one", "shared")
	for partition, next := range want {
		if got[partition] != next {
			t.Errorf("partition %d: committed %d, want %d", partition, got[partition], next)
		}
	}
	if state := groupState(t, tools, "test.one"); state != "Empty" {
		t.Errorf("the group is %q after its only member left, want Empty", state)
	}
}
