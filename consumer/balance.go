package consumer

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"

	"github.com/segmentio/kafka-go"
)

// balancer assigns the partitions of a consumer group to its members. A replica reads all partitions
// whatever it is assigned, and commits the offsets of its assigned partitions only. Two processes with the
// name of one replica, as in a rolling restart, therefore never overwrite each other's offsets.
//
//   - Even: the loads of two members differ by no more than the largest unit.
//   - Sticky: a unit stays with its member unless the member has left or has too many partitions.
//   - Co-partitioned: topics with the same number of partitions, more than one, share units. A unit holds
//     the partitions with one number, so that one member has a user's partitions of all these topics. A
//     topic with one partition is a unit by itself, because otherwise one member would get thousands of
//     users' topics.
//
// It implements [kafka.GroupBalancer].
type balancer struct {
	assigned      func() map[string][]int // the partitions of this member now, by topic
	reportMembers func(members int)       // called on the group's leader if the group has more than one member
}

// ProtocolName implements [kafka.GroupBalancer].
func (balancer) ProtocolName() string { return "herald-sticky" }

// UserData implements [kafka.GroupBalancer]. It sends this member's partitions to the group's leader.
func (b balancer) UserData() ([]byte, error) { return json.Marshal(b.assigned()) }

// unit is a set of partitions that one member gets as a whole.
type unit struct {
	count     int    // partitions of each of its topics
	topic     string // of units with a count of 1
	partition int
}

// unitOf returns the unit of a partition of a topic that has count partitions.
func unitOf(topic string, count, partition int) unit {
	if count > 1 {
		topic = ""
	}
	return unit{count, topic, partition}
}

// AssignGroups implements [kafka.GroupBalancer].
func (b balancer) AssignGroups(members []kafka.GroupMember, partitions []kafka.Partition) kafka.GroupMemberAssignments {
	if len(members) > 1 {
		b.reportMembers(len(members))
	}
	counts := make(map[string]int)
	for _, p := range partitions {
		counts[p.Topic]++
	}
	units := make(map[unit][]kafka.Partition)
	for _, p := range partitions {
		u := unitOf(p.Topic, counts[p.Topic], p.ID)
		units[u] = append(units[u], p)
	}
	owners := keepOwners(members, counts, units, len(partitions)/max(1, len(members)))
	load := make(map[string]int)
	for u, owner := range owners {
		load[owner] += len(units[u])
	}
	free := slices.DeleteFunc(slices.Collect(maps.Keys(units)), func(u unit) bool { return owners[u] != "" })
	slices.SortFunc(free, func(x, y unit) int {
		return cmp.Or(cmp.Compare(len(units[y]), len(units[x])), cmp.Compare(x.count, y.count), cmp.Compare(x.topic, y.topic), cmp.Compare(x.partition, y.partition))
	})
	assignments := make(kafka.GroupMemberAssignments, len(members))
	ids := make([]string, 0, len(members))
	for _, m := range members {
		assignments[m.ID] = make(map[string][]int)
		ids = append(ids, m.ID)
	}
	slices.Sort(ids)
	for _, u := range free { // the largest first, each to the member with the smallest load
		owner := slices.MinFunc(ids, func(x, y string) int { return cmp.Compare(load[x], load[y]) })
		owners[u] = owner
		load[owner] += len(units[u])
	}
	for u, owner := range owners {
		for _, p := range units[u] {
			assignments[owner][p.Topic] = append(assignments[owner][p.Topic], p.ID)
		}
	}
	for _, topics := range assignments {
		for _, ids := range topics {
			slices.Sort(ids)
		}
	}
	return assignments
}

// keepOwners returns the units that stay with their members. A member keeps up to share
// partitions, or a single unit that is larger.
func keepOwners(members []kafka.GroupMember, counts map[string]int, units map[unit][]kafka.Partition, share int) map[unit]string {
	owners := make(map[unit]string)
	for _, m := range members {
		var had map[string][]int
		if json.Unmarshal(m.UserData, &had) != nil {
			continue // the data of another program, or none
		}
		load := 0
		for _, topic := range slices.Sorted(maps.Keys(had)) {
			for _, id := range had[topic] {
				u := unitOf(topic, counts[topic], id)
				size := len(units[u])
				if size > 0 && owners[u] == "" && load+size <= max(share, size) {
					owners[u] = m.ID
					load += size
				}
			}
		}
	}
	return owners
}
