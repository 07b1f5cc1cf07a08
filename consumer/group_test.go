package consumer

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestOnlyPartitionsThatMovedAreCommitted checks the partitions that each commit names: the first commit
// names all partitions, a later commit only the partitions read since the last. Without new records there
// is no commit.
func TestOnlyPartitionsThatMovedAreCommitted(t *testing.T) {
	t.Parallel()
	broker := newBroker(t, kfake.SeedTopics(3, "t"))
	var mu sync.Mutex
	var commits [][]int32 // the partitions that each commit names
	broker.ControlKey(int16(kmsg.OffsetCommit), func(req kmsg.Request) (kmsg.Response, error, bool) {
		broker.KeepControl()
		var partitions []int32
		for _, p := range req.(*kmsg.OffsetCommitRequest).Topics[0].Partitions {
			partitions = append(partitions, p.Partition)
		}
		slices.Sort(partitions)
		mu.Lock()
		defer mu.Unlock()
		commits = append(commits, partitions)
		return nil, nil, false
	})
	beats := broker.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Heartbeat}, Group: "test.one", Observe: true, Count: -1})
	_, sink, _ := startAt(t, broker, "t")
	waitCommitted(t, broker, "test.one", Partition{Topic: "t", ID: 2}, 0)
	write := partitioned(t, broker)
	write("t", 1, "alice", "0") // one record, because a commit may come between two
	sink.sorted(t, 1)
	waitCommitted(t, broker, "test.one", Partition{Topic: "t", ID: 1}, 1)
	// The member sends a heartbeat every 3 s, so a commit interval ends within three heartbeats.
	for quiet, deadline := beats.Hits(), time.Now().Add(90*time.Second); beats.Hits() < quiet+3; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the member sent fewer than 3 heartbeats within 90 s")
		}
	}
	write("t", 0, "alice", "1")
	waitCommitted(t, broker, "test.one", Partition{Topic: "t", ID: 0}, 1)
	mu.Lock()
	defer mu.Unlock()
	if diff := cmp.Diff([][]int32{{0, 1, 2}, {1}, {0}}, commits); diff != "" {
		t.Errorf("partitions of the commits (-want +got):\n%s", diff)
	}
}
