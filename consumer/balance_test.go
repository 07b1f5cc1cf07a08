package consumer

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/segmentio/kafka-go"
)

// rebalance assigns the partitions of topics (name to count) to members that had what is given, and
// checks what must hold always: each partition has one owner, and the load is even.
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
	got := balancer{crowd: func(n int) { crowd = n }}.AssignGroups(members, partitions)
	if len(members) > 1 && crowd != len(members) {
		t.Errorf("%d members are told as %d", len(members), crowd)
	}
	owners := make(map[string]string)
	loads := make([]int, 0, len(got))
	for member, assigned := range got {
		load := 0
		for topic, ids := range assigned {
			for _, id := range ids {
				name := fmt.Sprint(topic, "/", id)
				if owners[name] != "" {
					t.Errorf("%s is assigned twice", name)
				}
				owners[name] = member
				load++
			}
		}
		loads = append(loads, load)
	}
	if len(owners) != len(partitions) || len(got) != len(members) {
		t.Errorf("%d of %d partitions are assigned to %d of %d members", len(owners), len(partitions), len(got), len(members))
	}
	unit := 1
	for _, size := range largest {
		unit = max(unit, size)
	}
	if slices.Max(loads)-slices.Min(loads) > unit {
		t.Errorf("loads %v differ by more than the largest unit, %d", loads, unit)
	}
	return got
}

// moved counts the partitions whose owner was there before and after, and changed.
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

func TestBalancer(t *testing.T) {
	users := map[string]int{"notifications": 12, "orders": 12, "news": 1}
	for i := range 3000 {
		users[fmt.Sprint("notifications.", i)] = 1
	}
	three := rebalance(t, users, map[string]map[string][]int{"a": nil, "b": nil, "c": nil})
	for member, topics := range three {
		if !slices.Equal(topics["notifications"], topics["orders"]) {
			t.Errorf("%s has %v of one topic and %v of the other: a user's partitions are not together", member, topics["notifications"], topics["orders"])
		}
	}
	same := rebalance(t, users, three)
	if n := moved(three, same); n != 0 {
		t.Errorf("%d partitions moved though nothing changed", n)
	}
	had := map[string]map[string][]int{"a": three["a"], "b": three["b"], "c": three["c"], "d": nil}
	four := rebalance(t, users, had)
	total := 3025
	if n := moved(three, four); n > total/4+2 {
		t.Errorf("%d of %d partitions moved for a fourth member", n, total)
	}
	delete(had, "a")
	had["b"], had["c"], had["d"] = four["b"], four["c"], four["d"]
	if n := moved(four, rebalance(t, users, had)); n > 4 {
		t.Errorf("%d partitions moved between members that stay", n)
	}
	rebalance(t, map[string]int{"t": 1}, map[string]map[string][]int{"a": nil, "b": nil})
	rebalance(t, users, map[string]map[string][]int{"only": {"gone": {1, 2}, "notifications": {99}}})
}
