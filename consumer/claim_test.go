package consumer

import (
	"fmt"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kfake"
)

// TestOwnersOfOneNameNeverMeet writes records for a user, for a value of a claim, for the same value of another claim and
// for nobody, all of one name. Each replay must get the records of its own owners, from the tail and from Kafka.
func TestOwnersOfOneNameNeverMeet(t *testing.T) {
	t.Parallel()
	specs := []string{"notes", "team-news,claim=team", "rooms,user=header:room,claim=room", "all,kind=broadcast"}
	broker := newBroker(t, kfake.SeedTopics(1, "notes", "team-news", "rooms", "all"))
	c, sink, producer := startAt(t, broker, specs...)
	ready(t, c)
	const rounds = 3
	for i := range rounds {
		for _, owner := range []string{"red", "blue", "alice", ""} {
			for _, topic := range []string{"notes", "team-news", "rooms", "all"} {
				m := Message{Topic: topic, Key: []byte(owner), Value: fmt.Appendf(nil, "%s %q %d", topic, owner, i)}
				if topic == "rooms" {
					m.Key, m.Headers = []byte("red"), []Header{{Key: "room", Value: []byte(owner)}}
				}
				if _, err := producer.Produce(t.Context(), m); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	const each = 4 * rounds
	sink.sorted(t, 4*each)
	var everyone []string
	for i := range rounds {
		for _, owner := range []string{"red", "blue", "alice", ""} {
			everyone = append(everyone, fmt.Sprintf("all %q %d", owner, i))
		}
	}
	of := func(topic string, owners ...string) (want []string) {
		for i := range rounds {
			for _, owner := range owners {
				want = append(want, fmt.Sprintf("%s %q %d", topic, owner, i))
			}
		}
		return want
	}
	tests := []struct {
		topic, user string
		values      []string
		want        []string
	}{
		{"notes", "red", nil, of("notes", "red")},
		{"notes", "alice", []string{"red"}, of("notes", "alice")}, // the topic has no claim
		{"team-news", "red", nil, nil},
		{"team-news", "alice", nil, nil},
		{"team-news", "alice", []string{}, nil},
		{"team-news", "alice", []string{""}, nil}, // records without a value are nobody's
		{"team-news", "alice", []string{"green"}, nil},
		{"team-news", "red", []string{"blue"}, of("team-news", "blue")},
		{"team-news", "bob", []string{"red"}, of("team-news", "red")},
		{"team-news", "bob", []string{"red", "blue", "red", "green", ""}, of("team-news", "red", "blue")},
		{"rooms", "red", nil, nil}, // the key is no room
		{"rooms", "red", []string{"blue"}, of("rooms", "blue")},
		{"rooms", "bob", []string{"blue", "red"}, of("rooms", "red", "blue")},
		{"all", "bob", []string{"red"}, everyone},
	}
	for _, from := range []string{"the tail", "Kafka"} {
		for _, test := range tests {
			p := Partition{Topic: test.topic}
			if from == "Kafka" {
				forgetTail(t, c, p)
			}
			var got []string
			ranges := []Range{{Partition: p, TopicID: topicID(t, c, test.topic), To: each, Values: test.values}}
			c.Replay(t.Context(), test.user, ranges, func(_ *Range, r *Record) bool {
				got = append(got, string(r.Value))
				if claims := map[string]string{"team-news": "team", "rooms": "room"}; r.Claim != claims[test.topic] || r.Broadcast != (test.topic == "all") {
					t.Errorf("%s: the record %s is for a value of the claim %q", test.topic, r.Value, r.Claim)
				}
				return true
			})
			if diff := cmp.Diff(test.want, got); diff != "" || ranges[0].Err != nil || ranges[0].Next != each {
				t.Errorf("%s from %s for %s with %q: ended at %d, %v (-want +got):\n%s", test.topic, from, test.user, test.values, ranges[0].Next, ranges[0].Err, diff)
			}
		}
	}
	topics := make(map[string]string)
	for _, topic := range c.UserTopics("red") {
		topics[topic.Topic] = topic.Claim
	}
	if diff := cmp.Diff(map[string]string{"notes": "", "team-news": "team", "rooms": "room", "all": ""}, topics); diff != "" {
		t.Errorf("claims of topics (-want +got):\n%s", diff)
	}
}

// TestPassesServeSeveralValues replays a log for many viewers at once, each with other values. Each must get all records of
// its own values in the order of offsets, and no other record.
func TestPassesServeSeveralValues(t *testing.T) {
	t.Parallel()
	const records, teams = 6000, 6
	broker := newBroker(t, kfake.SeedTopics(1, "t"))
	c, _, _ := startAt(t, broker, "t,claim=team")
	ready(t, c)
	fill(t, broker.ListenAddrs()[0], 1, records, teams, 0)
	p := Partition{Topic: "t", ID: 0}
	waitFor(t, "live reading has reached the end of the log", func() bool { next, _ := c.reader.livePartition(p).position(); return next == records })
	forgetTail(t, c, p)
	id := topicID(t, c, "t")
	var wg sync.WaitGroup
	for set := range 1 << teams { // each set of teams
		wg.Go(func() {
			var values []string
			for team := range teams {
				if set&(1<<team) != 0 {
					values = append(values, fmt.Sprint(team))
				}
			}
			ranges := []Range{{Partition: p, TopicID: id, Next: int64(set), To: records, Values: values}}
			next := int64(set)
			c.Replay(t.Context(), "0", ranges, func(_ *Range, r *Record) bool {
				for ; next < r.Offset; next++ {
					if set&(1<<(next%teams)) != 0 {
						t.Errorf("the teams %q did not get the record at %d", values, next)
					}
				}
				if set&(1<<(r.Offset%teams)) == 0 || string(r.User) != fmt.Sprint(r.Offset%teams) || r.Offset != next {
					t.Errorf("the teams %q got the record at %d of %s, want the one at %d", values, r.Offset, r.User, next)
				}
				next++
				return !t.Failed()
			})
			if ranges[0].Err != nil || ranges[0].Next != records || next < records-teams && set != 0 {
				t.Errorf("the replay for the teams %q ended at %d after the record at %d: %v", values, ranges[0].Next, next-1, ranges[0].Err)
			}
		})
	}
	wg.Wait()
}
