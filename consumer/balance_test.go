package consumer

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/segmentio/kafka-go"
)

// rebalance runs the balancer. topics holds the number of partitions of each topic; had holds the
// partitions that each member had before. rebalance checks what must always hold: each partition has one
// owner, and the load is even.
func rebalance(t *testing.T, topics map[string]int, had map[string]map[string][]int) kafka.GroupMemberAssignments {
	t.Helper()
	var partitions []kafka.Partition
	largest := make(map[int]int)
	for topic, count := range topics {
		for i := range count {
			partitions = append(partitions, kafka.Partition{Topic: topic, ID: i})
		}
		if count > 1 {
			largest[count]++
		}
	}
	var members []kafka.GroupMember
	for id, assigned := range had {
		data, err := json.Marshal(assigned)
		if err != nil {
			t.Fatal(err)
		}
		members = append(members, kafka.GroupMember{ID: id, UserData: data})
	}
	crowd := 0
	got := balancer{reportMembers: func(n int) { crowd = n }}.AssignGroups(members, partitions)
	if len(members) > 1 && crowd != len(members) {
		t.Errorf("the balancer reported %d members, want %d", crowd, len(members))
	}
	owners := make(map[string]string)
	loads := make([]int, 0, len(got))
	for member, assigned := range got {
		load := 0
		for topic, ids := range assigned {
			for _, id := range ids {
				name := fmt.Sprint(topic, "/", id)
				if owners[name] != "" {
					t.Errorf("partition %s is assigned to two members", name)
				}
				owners[name] = member
				load++
			}
		}
		loads = append(loads, load)
	}
	if len(owners) != len(partitions) || len(got) != len(members) {
		t.Errorf("the balancer assigned %d of %d partitions to %d of %d members", len(owners), len(partitions), len(got), len(members))
	}
	unit := 1
	for _, size := range largest {
		unit = max(unit, size)
	}
	if slices.Max(loads)-slices.Min(loads) > unit {
		t.Errorf("loads %v differ by more than %d, the largest number of partitions that must stay together", loads, unit)
	}
	return got
}

// moved counts the partitions that changed their owner although the old owner is still a member.
func moved(before, after kafka.GroupMemberAssignments) int {
	owner := make(map[string]string)
	for member, topics := range before {
		for topic, ids := range topics {
			for _, id := range ids {
				owner[fmt.Sprint(topic, "/", id)] = member
			}
		}
	}
	count := 0
	for member, topics := range after {
		for topic, ids := range topics {
			for _, id := range ids {
				was := owner[fmt.Sprint(topic, "/", id)]
				if _, stays := after[was]; stays && was != member {
					count++
				}
			}
		}
	}
	return count
}

// TestBalancerMovesFewPartitions checks the balancer while members join and leave: partitions with the same
// number have the same owner in all shared topics, and few partitions move.
func TestBalancerMovesFewPartitions(t *testing.T) {
	users := map[string]int{"notifications": 12, "orders": 12, "news": 1}
	for i := range 3000 {
		users[fmt.Sprint("notifications.", i)] = 1
	}
	three := rebalance(t, users, map[string]map[string][]int{"a": nil, "b": nil, "c": nil})
	for member, topics := range three {
		if !slices.Equal(topics["notifications"], topics["orders"]) {
			t.Errorf("member %s owns partitions %v of one topic and %v of the other, want the same partitions of both", member, topics["notifications"], topics["orders"])
		}
	}
	same := rebalance(t, users, three)
	if n := moved(three, same); n != 0 {
		t.Errorf("%d partitions moved although nothing changed", n)
	}
	had := map[string]map[string][]int{"a": three["a"], "b": three["b"], "c": three["c"], "d": nil}
	four := rebalance(t, users, had)
	total := 3025
	if n := moved(three, four); n > total/4+2 {
		t.Errorf("%d of %d partitions moved when a fourth member joined", n, total)
	}
	delete(had, "a")
	had["b"], had["c"], had["d"] = four["b"], four["c"], four["d"]
	if n := moved(four, rebalance(t, users, had)); n > 4 {
		t.Errorf("%d partitions moved between the members that stayed", n)
	}
	rebalance(t, map[string]int{"t": 1}, map[string]map[string][]int{"a": nil, "b": nil})
	rebalance(t, users, map[string]map[string][]int{"only": {"gone": {1, 2}, "notifications": {99}}})
}
