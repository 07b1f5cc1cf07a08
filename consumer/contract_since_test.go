package consumer

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"
)

// TestContractSinceFindsTheFirstRecords checks that Since returns the offset of the first record at a time
// or later. The partitions have such records, only older records, or none.
func TestContractSinceFindsTheFirstRecords(t *testing.T) {
	k := newContract(t)
	topic := k.topic(t, "shared", 3)
	now := time.Now()
	for partition, ages := range [][]time.Duration{{3 * time.Hour, time.Hour, time.Minute}, {3 * time.Hour, 2 * time.Hour}, nil} {
		for _, age := range ages {
			r := &kgo.Record{Topic: topic, Partition: int32(partition), Value: []byte("v"), Timestamp: now.Add(-age)}
			if err := k.client.ProduceSync(t.Context(), r).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
	}
	c, _ := k.read(t, "shared")
	at := func(id int32) Partition { return Partition{Topic: topic, ID: id} }
	for name, test := range map[string]struct {
		time time.Time
		want map[Partition]int64
	}{
		"earliest":     {time.Time{}, map[Partition]int64{at(0): 0, at(1): 0, at(2): 0}},
		"before all":   {now.Add(-4 * time.Hour), map[Partition]int64{at(0): 0, at(1): 0, at(2): AfterAll}},
		"between":      {now.Add(-150 * time.Minute), map[Partition]int64{at(0): 1, at(1): 1, at(2): AfterAll}},
		"for one only": {now.Add(-90 * time.Minute), map[Partition]int64{at(0): 1, at(1): AfterAll, at(2): AfterAll}},
		"after all":    {now.Add(time.Hour), map[Partition]int64{at(0): AfterAll, at(1): AfterAll, at(2): AfterAll}},
	} {
		got, err := c.Since(t.Context(), []Partition{at(0), at(1), at(2)}, test.time)
		if diff := cmp.Diff(test.want, got); err != nil || diff != "" {
			t.Errorf("time %s: error %v, offsets (-want +got):\n%s", name, err, diff)
		}
	}
	// If a partition has no leader, Starts returns an error and the offsets of the other partitions.
	c.topics.mu.Lock()
	c.topics.states[topic].leaders = []int32{c.topics.states[topic].leaders[0], -1, c.topics.states[topic].leaders[2]}
	c.topics.mu.Unlock()
	got, err := c.Starts(t.Context(), c.UserTopics(""))
	if diff := cmp.Diff(map[Partition]int64{at(0): 0, at(2): 0}, got); err == nil || diff != "" {
		t.Errorf("with a partition that has no leader: error %v, offsets (-want +got):\n%s", err, diff)
	}
}
