package consumer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// stable waits until the group is stable with this number of members, and returns the members.
func (k *contract) stable(t *testing.T, group string, members int) []kadm.DescribedGroupMember {
	t.Helper()
	var found kadm.DescribedGroup
	for deadline := time.Now().Add(90 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		described, err := k.admin.DescribeGroups(t.Context(), group)
		if found = described[group]; err == nil && found.State == "Stable" && len(found.Members) == members {
			return found.Members
		}
	}
	t.Fatalf("group %s is %s with %d members, want Stable with %d", group, found.State, len(found.Members), members)
	return nil
}

// committed returns the group's committed offset of the partition, or -1 if the group has none.
func (k *contract) committed(t *testing.T, group string, p Partition) int64 {
	t.Helper()
	offsets, err := k.admin.FetchOffsets(t.Context(), group)
	if err != nil {
		t.Fatal(err)
	}
	offset, ok := offsets.Lookup(p.Topic, p.ID)
	if !ok {
		return -1
	}
	return offset.At
}

// rival is a member of a replica's group that is not a Herald process.
type rival struct {
	client     *kgo.Client
	group      string
	id         string
	generation int32
}

// newRival joins the group and returns when the group begins a generation with the rival. The generation
// has no assignment yet.
func (k *contract) newRival(t *testing.T, group, topic string) *rival {
	t.Helper()
	r := &rival{client: k.connect(t, kgo.MaxVersions(kversion.V3_0_0())), group: group}
	member := kmsg.ConsumerMemberMetadata{Topics: []string{topic}} // version 0: kafka-go cannot read later versions
	protocol := kmsg.NewJoinGroupRequestProtocol()
	protocol.Name, protocol.Metadata = balancer{}.ProtocolName(), member.AppendTo(nil)
	for {
		req := kmsg.NewPtrJoinGroupRequest()
		req.Group, req.MemberID, req.ProtocolType = group, r.id, "consumer"
		req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = 30_000, 30_000
		req.Protocols = append(req.Protocols, protocol)
		res, err := req.RequestWith(t.Context(), r.client)
		if err != nil {
			t.Fatal(err)
		}
		r.id, r.generation = res.MemberID, res.Generation
		if err := kerr.ErrorForCode(res.ErrorCode); err == nil {
			return r
		} else if !errors.Is(err, kerr.MemberIDRequired) {
			t.Fatalf("join %s: %v", group, err)
		}
	}
}

// take ends the join: the rival, as the group's leader, assigns no partition to any member.
func (r *rival) take(t *testing.T) {
	t.Helper()
	kind, protocol := "consumer", balancer{}.ProtocolName()
	req := kmsg.NewPtrSyncGroupRequest()
	req.Group, req.MemberID, req.Generation, req.ProtocolType, req.Protocol = r.group, r.id, r.generation, &kind, &protocol
	res, err := req.RequestWith(t.Context(), r.client)
	if err == nil {
		err = kerr.ErrorForCode(res.ErrorCode)
	}
	if err != nil {
		t.Fatalf("sync %s: %v", r.group, err)
	}
}

// commit commits as a member of the generation.
func (r *rival) commit(t *testing.T, generation int32, p Partition, next int64) error {
	t.Helper()
	part := kmsg.NewOffsetCommitRequestTopicPartition()
	part.Partition, part.Offset = p.ID, next
	topic := kmsg.NewOffsetCommitRequestTopic()
	topic.Topic, topic.Partitions = p.Topic, append(topic.Partitions, part)
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.MemberID, req.Generation, req.Topics = r.group, r.id, generation, append(req.Topics, topic)
	res, err := req.RequestWith(t.Context(), r.client)
	if err != nil {
		t.Fatal(err)
	}
	return kerr.ErrorForCode(res.Topics[0].Partitions[0].ErrorCode)
}

// remove makes the group's coordinator forget the rival.
func (r *rival) remove(t *testing.T) { t.Helper(); removeMember(t, r.client, r.group, r.id) }

func removeMember(t *testing.T, client *kgo.Client, group, id string) {
	t.Helper()
	member := kmsg.NewLeaveGroupRequestMember()
	member.MemberID = id
	req := kmsg.NewPtrLeaveGroupRequest()
	req.Group, req.MemberID, req.Members = group, id, append(req.Members, member) // before version 3, the request has one member
	res, err := req.RequestWith(t.Context(), client)
	if err == nil {
		err = kerr.ErrorForCode(res.ErrorCode)
	}
	if err == nil && len(res.Members) > 0 {
		err = kerr.ErrorForCode(res.Members[0].ErrorCode)
	}
	if err != nil {
		t.Fatalf("leave %s: %v", group, err)
	}
}

// TestContractStoppedReplicaCommitsAndLeaves checks that a consumer that stops has committed all it read
// and has left its group, so that its successor does not wait for the session to time out.
func TestContractStoppedReplicaCommitsAndLeaves(t *testing.T) {
	k := newContract(t)
	topic, group := k.topic(t, "t", 2), k.run+"group.one"
	sink := newLedger()
	c := configured(t, k.addresses, sink, "group="+k.run+"group", topic)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	k.stable(t, group, 1)
	k.write(t, k.client, topic, 0, "alice", "0", "1")
	k.write(t, k.client, topic, 1, "alice", "2")
	sink.sorted(t, 3)
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for p, want := range map[Partition]int64{{Topic: topic, ID: 0}: 2, {Topic: topic, ID: 1}: 1} {
		waitFor(t, fmt.Sprintf("%d of %s is committed", want, p), func() bool { return k.committed(t, group, p) == want })
	}
	// Run may return before the member has left, see leaveTimeout. Without leaving, the group is empty after sessionTimeout.
	for deadline := time.Now().Add(sessionTimeout / 2); ; time.Sleep(20 * time.Millisecond) {
		described, err := k.admin.DescribeGroups(t.Context(), group)
		state := described[group].State
		if err == nil && state == "Empty" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the group is %s (error %v) after its only member has left, want Empty", state, err)
		}
	}
}

// TestContractCommitComesBeforeTheNextGeneration checks that all records read so far are committed when a
// new member's generation begins. Herald does not wait for the next commit interval.
func TestContractCommitComesBeforeTheNextGeneration(t *testing.T) {
	k := newContract(t)
	topic, group := k.topic(t, "t", 1), k.run+"group.one"
	_, sink := k.read(t, "t")
	k.stable(t, group, 1)
	k.write(t, k.client, topic, 0, "alice", "0", "1", "2")
	sink.sorted(t, 3)
	r := k.newRival(t, group, topic) // it returns once Herald has joined the same generation
	if got := k.committed(t, group, Partition{Topic: topic, ID: 0}); got != 3 {
		t.Errorf("committed %d when the next generation begins, want 3", got)
	}
	r.remove(t)
}

// TestContractReplicaRemovedFromItsGroupJoinsAgain removes Herald from its group without its knowledge, and
// checks that Kafka refuses Herald's next commit, so that another member's offset stays. Then Herald joins
// again and commits as a new member.
func TestContractReplicaRemovedFromItsGroupJoinsAgain(t *testing.T) {
	k := newContract(t)
	topic, group := k.topic(t, "t", 1), k.run+"group.one"
	p := Partition{Topic: topic, ID: 0}
	sink := newLedger()
	c := configured(t, k.addresses, sink, "group="+k.run+"group", topic)
	log := hear(t, c)
	run(t, c)
	ready(t, c)
	read := 0
	write := func() {
		k.write(t, k.client, topic, 0, "alice", fmt.Sprint(read))
		read++
		sink.sorted(t, read)
	}
	write()
	write()
	refused := func() float64 { return testutil.ToFloat64(c.metrics.commits.WithLabelValues("error")) }
	removeMember(t, k.client, group, k.stable(t, group, 1)[0].MemberID)
	r := k.newRival(t, group, topic)
	r.take(t)
	if err := r.commit(t, r.generation, p, 1); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(60 * time.Second); refused() == 0; time.Sleep(20 * time.Millisecond) {
		if write(); time.Now().After(deadline) {
			t.Fatal("Kafka refused no commit within a minute")
		}
	}
	if err := r.commit(t, r.generation-1, p, 2); !errors.Is(err, kerr.IllegalGeneration) {
		t.Errorf("a commit of the previous generation: error %v, want %v", err, kerr.IllegalGeneration)
	}
	if got := k.committed(t, group, p); got != 1 {
		t.Errorf("committed %d after a stale commit, want 1, which the other member committed", got)
	}
	r.remove(t)
	for deadline := time.Now().Add(60 * time.Second); k.committed(t, group, p) != int64(read); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("committed %d, want %d: all records read so far", k.committed(t, group, p), read)
		}
	}
	if log.count("…consumer group…") > 0 {
		t.Errorf("the log has a line about the consumer group: %q", log.all())
	}
}

// TestContractGroupCreatesNoMissingTopic checks that a missing topic stays missing when another member of
// the group names it, as a replica does that does not know yet that the topic was deleted. Herald, the
// group's leader, requests the metadata of all members' topics; that must not create the topic.
func TestContractGroupCreatesNoMissingTopic(t *testing.T) {
	k := newContract(t)
	group, missing := k.run+"group.one", k.run+"missing"
	k.topic(t, "t", 1)
	k.read(t, "t")
	k.stable(t, group, 1)
	r := k.newRival(t, group, missing)
	k.stable(t, group, 2) // the leader has requested the metadata when the group is stable
	r.remove(t)
	later := k.topic(t, "later", 1) // topics are created in order: once this one exists, a topic requested before it exists too
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		found, err := k.admin.ListTopics(t.Context(), missing, later)
		if found.Has(missing) {
			t.Errorf("topic %s was created", missing)
		}
		if err == nil && found.Has(later) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("topic %s does not exist after 20 s: %v", later, err)
		}
	}
}

// TestContractTwoReplicasOfOneNameShareTheCommits runs two consumers with the same replica name, and checks
// that each partition is assigned to one of them, that both read all records, and that a log line warns.
func TestContractTwoReplicasOfOneNameShareTheCommits(t *testing.T) {
	k := newContract(t)
	topic, other, group := k.topic(t, "t", 4), k.topic(t, "other", 3), k.run+"group.one"
	var sinks []*ledger
	var logs []*said
	for range 2 {
		sink := newLedger()
		c := configured(t, k.addresses, sink, "group="+k.run+"group", topic, other)
		logs = append(logs, hear(t, c))
		run(t, c)
		ready(t, c)
		sinks = append(sinks, sink)
	}
	var got []string
	for _, m := range k.stable(t, group, 2) {
		assigned, ok := m.Assigned.AsConsumer()
		if !ok || len(assigned.Topics) == 0 {
			t.Errorf("%s has the assignment %+v", m.MemberID, m.Assigned)
			continue
		}
		for _, of := range assigned.Topics {
			for _, id := range of.Partitions {
				got = append(got, Partition{Topic: of.Topic, ID: id}.String())
			}
		}
	}
	var want []string
	for name, partitions := range map[string]int32{topic: 4, other: 3} {
		for id := range partitions {
			want = append(want, Partition{Topic: name, ID: id}.String())
		}
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, sortedCopy(got)); diff != "" {
		t.Errorf("assigned to the two (-want +got):\n%s", diff)
	}
	warned := func(log *said) bool { return log.count("WARN another process uses the name of this replica…") > 0 }
	if !slices.ContainsFunc(logs, warned) {
		t.Error("neither consumer warns that another process uses its name")
	}
	var lines []string
	for id := range int32(4) {
		lines = append(lines, k.write(t, k.client, topic, id, "alice", fmt.Sprint(id), fmt.Sprint(id, "."))...)
	}
	for _, sink := range sinks {
		sink.wantLines(t, sortedCopy(lines))
	}
	for id := range int32(4) {
		waitFor(t, fmt.Sprintf("what was read of partition %d is committed", id), func() bool { return k.committed(t, group, Partition{Topic: topic, ID: id}) == 2 })
	}
}
