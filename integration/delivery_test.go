package integration

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kgo"
)

// TestRecordsReachOnlyTheirUser writes records for several users with similar names to each partition of a shared
// topic and to the users' own topics. Each user must receive exactly the records for this user, in the order of each
// partition.
func TestRecordsReachOnlyTheirUser(t *testing.T) {
	const partitions, rounds = 3, 5
	b := sharedBroker(t)
	topic, own := b.newTopic(t, "shared", partitions), topicName(t, "own")
	h := startHerald(t, b, "--topic="+topic, "--topic="+own+".{user}")
	users := []string{"alice", "Alice", "alice2", "ali", "bob", "alice.bob"}
	streams := map[string]*eventSource{}
	for _, user := range users {
		b.createTopic(t, own+"."+user, 1)
		streams[user] = openStream(t, h, user)
	}
	want := map[string][]string{}
	write := func(user, log string, round int, r *kgo.Record) {
		r.Value = fmt.Appendf(nil, "%s %s %d", user, log, round)
		b.produce(t, r)
		key := user + " " + log
		want[key] = append(want[key], string(r.Value))
	}
	for round := range rounds {
		for partition := range int32(partitions) {
			b.produce(t, &kgo.Record{Topic: topic, Partition: partition, Value: []byte("a null key is nobody's")})
			b.produce(t, inPartition(partition, record(topic, "carol", "carol has no stream")))
			for _, user := range users {
				write(user, fmt.Sprintf("%s/%d", topic, partition), round, inPartition(partition, record(topic, user, "")))
			}
		}
		for _, user := range users {
			write(user, own, round, &kgo.Record{Topic: own + "." + user})
		}
	}
	got := map[string][]string{}
	for _, user := range users {
		for _, value := range streams[user].Values(rounds * (partitions + 1)) {
			words := strings.Fields(value)
			key := user + " " + words[1%len(words)]
			got[key] = append(got[key], value)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("records by user and partition (-want +got):\n%s", diff)
	}
}

// TestTwoStreamsOfOneUser opens two streams of a user. Both must receive every record, and cutting one must not
// affect the other.
func TestTwoStreamsOfOneUser(t *testing.T) {
	b := sharedBroker(t)
	topic := b.newTopic(t, "shared", 1)
	h := startHerald(t, b, "--topic="+topic)
	first, second := openStream(t, h, "alice"), openStream(t, h, "alice")
	b.produce(t, record(topic, "alice", "a"), record(topic, "bob", "not alice's"), record(topic, "alice", "b"))
	want := []string{"a", "b"}
	for name, s := range map[string]*eventSource{"first": first, "second": second} {
		if diff := cmp.Diff(want, s.Values(2)); diff != "" {
			t.Errorf("%s stream (-want +got):\n%s", name, diff)
		}
	}
	first.Cut()
	b.produce(t, record(topic, "alice", "c"))
	if got := second.Record().Data; got != "c" {
		t.Errorf("after the first stream was cut, the second got %q, want c", got)
	}
	first.Reconnect()
	if got := first.Record().Data; got != "c" {
		t.Errorf("the first stream continued with %q, want c", got)
	}
}

// TestBroadcast writes to a broadcast topic. All users must receive the records, whatever their keys.
func TestBroadcast(t *testing.T) {
	b := sharedBroker(t)
	topic, everyone := b.newTopic(t, "shared", 1), b.newTopic(t, "everyone", 1)
	h := startHerald(t, b, "--topic="+topic, "--topic="+everyone+",kind=broadcast")
	streams := map[string]*eventSource{"alice": openStream(t, h, "alice"), "bob": openStream(t, h, "bob")}
	b.produce(t, &kgo.Record{Topic: everyone, Value: []byte("without a key")}, record(everyone, "alice", "with alice's key"))
	for user, s := range streams {
		if diff := cmp.Diff([]string{"without a key", "with alice's key"}, s.Values(2)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", user, diff)
		}
	}
	b.produce(t, record(topic, "bob", "for bob"), record(everyone, "", "for all"))
	if got := streams["alice"].Record().Data; got != "for all" {
		t.Errorf("alice got %q, want the broadcast only", got)
	}
}

// TestUserTopicCreatedLater creates a user's topic while the user's stream is open, and while it is cut. The stream
// must deliver the topic's first record.
func TestUserTopicCreatedLater(t *testing.T) {
	for _, cut := range []bool{false, true} {
		t.Run(fmt.Sprintf("cut=%t", cut), func(t *testing.T) {
			b := sharedBroker(t)
			own := topicName(t, "own")
			h := startHerald(t, b, "--topic="+own+".{user}")
			alice, bob := openStream(t, h, "alice"), openStream(t, h, "bob")
			if cut {
				alice.Cut()
			}
			for _, user := range []string{"bob", "alice"} {
				b.createTopic(t, own+"."+user, 2)
				b.produce(t, record(own+"."+user, "", user+" 1"), record(own+"."+user, "", user+" 2"))
			}
			if cut {
				alice.Reconnect()
			}
			for user, s := range map[string]*eventSource{"alice": alice, "bob": bob} {
				if diff := cmp.Diff([]string{user + " 1", user + " 2"}, s.Values(2)); diff != "" {
					t.Errorf("%s (-want +got):\n%s", user, diff)
				}
			}
			alice.Cut()
			b.produce(t, record(own+".alice", "", "alice 3"))
			alice.Reconnect()
			if got := alice.Record().Data; got != "alice 3" {
				t.Errorf("after another cut alice got %q, want alice 3", got)
			}
		})
	}
}

// TestPublish writes through the HTTP endpoints, to one user and to all users.
func TestPublish(t *testing.T) {
	b := sharedBroker(t)
	topic, everyone := b.newTopic(t, "shared", 3), b.newTopic(t, "everyone", 1)
	h := startHerald(t, b, "--topic="+topic, "--topic="+everyone+",kind=broadcast", "--enable-publish")
	alice, bob := openStream(t, h, "alice"), openStream(t, h, "bob")
	publishTo(t, h, "/users/alice/notifications?type=order.shipped", `{"order":7}`, topic)
	if got := alice.Record(); got.Type != "order.shipped" || got.Data != `{"order":7}` {
		t.Errorf("alice got %+v", got)
	}
	partition := publishTo(t, h, "/broadcast", "hello", everyone)
	for user, s := range map[string]*eventSource{"alice": alice, "bob": bob} {
		if got := s.Record(); got.Type != "message" || got.Data != "hello" {
			t.Errorf("%s got %+v, want the broadcast", user, got)
		}
	}
	answer, err := b.client.Fetch(t.Context(), &kafka.FetchRequest{Topic: everyone, Partition: partition, MinBytes: 1, MaxBytes: 1 << 20})
	if err != nil {
		t.Fatalf("fetch %s/%d: %v", everyone, partition, err)
	}
	r, err := answer.Records.ReadRecord()
	if err != nil {
		t.Fatalf("read %s/%d: %v", everyone, partition, err)
	}
	headers := map[string]string{}
	for _, header := range r.Headers {
		headers[header.Key] = string(header.Value)
	}
	if diff := cmp.Diff(map[string]string{"content-type": "application/json"}, headers); diff != "" {
		t.Errorf("headers of the record (-want +got):\n%s", diff)
	}
}
