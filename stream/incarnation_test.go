package stream

import (
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kversion"

	"herald/consumer"
)

// TestSameIncarnation compares incarnations as a replica and an event id name them.
func TestSameIncarnation(t *testing.T) {
	local := func(n byte) [16]byte { return [16]byte{15: n} }
	fromID := func(i incarnation) incarnation { return incarnation{incarnationTag: i.incarnationTag} }
	one, two := newIncarnation([16]byte{1}), newIncarnation([16]byte{2})
	unknown, later := newIncarnation(local(1)), newIncarnation(local(2))
	earlier := func(i incarnation) incarnation { return incarnation{earlierID, i.incarnationTag} }
	for _, test := range []struct {
		name string
		a, b incarnation
		want bool
	}{
		{"an event id from before the topic did not exist", earlier(unknown), later, false},
		{"such an event id of a replica that knows the id", earlier(one), later, false},
		{"such an event id, and another topic", earlier(one), two, false},
		{"such an event id, and a topic that was absent in error", earlier(one), one, true},
		{"such an event id, and a topic that does not exist", earlier(one), absent, false},
		{"one id", one, one, true},
		{"two ids", one, two, false},
		{"an event id of another topic", fromID(one), two, false},
		{"an event id of this topic", fromID(two), two, true},
		{"an event id of a replica that does not know the id", fromID(unknown), two, true},
		{"an event id of a replica that knows the id", fromID(one), unknown, true},
		{"an event id of a replica that does not know it either", fromID(later), unknown, true},
		{"this replica has found another topic", unknown, later, false},
		{"this replica has found another topic with an id", unknown, one, false},
		{"no topic, and a topic without id", absent, unknown, false},
		{"an event id without topic, and a topic without id", fromID(absent), unknown, false},
		{"no topic", fromID(absent), absent, true},
	} {
		if test.a.isSame(test.b) != test.want || test.b.isSame(test.a) != test.want {
			t.Errorf("%s: same is %t, want %t", test.name, !test.want, test.want)
		}
	}
}

// TestStreamOfTopicsWithoutIDs resumes on brokers that report no topic ids, or only in metadata, with event ids of this
// replica and of replicas that know another id or none. Then topics are created again while the stream is open.
func TestStreamOfTopicsWithoutIDs(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		versions *kversion.Versions
		hasIDs   bool
	}{
		"Kafka 2.1": {kversion.V2_1_0(), false},
		"Kafka 3.0": {kversion.V3_0_0(), true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			broker := startBroker(t, kfake.MaxVersions(test.versions), kfake.SeedTopics(1, "shared", "own.alice"))
			s := serveOn(t, broker, Config{}, (*httptest.Server).Start, []consumer.Route{{Topic: "shared"}, {Topic: "own.{user}", Kind: consumer.PerUser}})
			first := open(t, s.url+"alice", "")
			begun := first.next().id
			for i := range 3 {
				put(t, s.producer, "shared", "alice", fmt.Sprint("shared", i))
				put(t, s.producer, "own.alice", "", fmt.Sprint("own", i))
			}
			if got := first.until("own2"); !slices.Contains(got, "shared2") {
				first.until("shared2")
			}
			parts := strings.Split(begun, "~")
			if got := strings.Contains(parts[1]+parts[2], unknownTag); got == test.hasIDs {
				t.Errorf("the id %s has the tag of unknown topic ids: %t", begun, got)
			}
			other := parts[0] + "~" + tag("own.alice") + unknownTag + "~" + tag("shared") + unknownTag
			all := []string{"own0", "own1", "own2", "shared0", "shared1", "shared2"}
			for i, resumed := range []struct {
				id   string
				want []string
			}{{begun, all}, {other, all}, {first.last, nil}} {
				again := open(t, s.url+"alice", resumed.id)
				end := fmt.Sprint("end ", i)
				put(t, s.producer, "shared", "alice", end)
				got := slices.DeleteFunc(again.until(end), func(data string) bool { return strings.HasPrefix(data, "end ") })
				slices.Sort(got)
				if diff := cmp.Diff(resumed.want, got, cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("resumed from %s (-want +got):\n%s", resumed.id, diff)
				}
			}

			for _, topic := range []string{"shared", "own.alice"} {
				old := open(t, s.url+"alice", "")
				position := old.next().id
				if err := broker.DeleteTopic(topic); err != nil {
					t.Fatal(err)
				}
				for deadline := time.Now().Add(20 * time.Second); len(s.consumer.LogEnds(topic)) > 0; time.Sleep(10 * time.Millisecond) {
					if time.Now().After(deadline) {
						t.Fatalf("the replica still has topic %s", topic)
					}
				}
				if err := broker.CreateTopic(topic, 1, nil); err != nil {
					t.Fatal(err)
				}
				for i := range 20 {
					put(t, s.producer, topic, "alice", fmt.Sprint("new", i))
				}
				want := []string{fmt.Sprintf(`{"source":%q,"reason":"recreated"}`, topic)}
				for i := range 20 {
					want = append(want, fmt.Sprint("new", i))
				}
				if diff := cmp.Diff(want, old.until("new19")); diff != "" {
					t.Errorf("%s (-want +got):\n%s", topic, diff)
				}
				if !test.hasIDs {
					continue
				}
				if got := open(t, s.url+"alice", position).until("new19"); len(got) != 21 {
					t.Errorf("%s, resumed from before: %q", topic, got)
				}
			}
		})
	}
}

// TestResumeWithoutTopic resumes when the topic does not exist. The stream gets all records of the topic that is created
// then, also on a replica that has never seen the old one, and where topics have no ids.
func TestResumeWithoutTopic(t *testing.T) {
	t.Parallel()
	for name, versions := range map[string]*kversion.Versions{"Kafka 2.1": kversion.V2_1_0(), "Kafka 3.0": kversion.V3_0_0()} {
		for _, records := range []int{3, 20} {
			t.Run(fmt.Sprint(name, ", ", records, " records"), func(t *testing.T) {
				t.Parallel()
				broker := startBroker(t, kfake.MaxVersions(versions), kfake.SeedTopics(1, "own.alice"))
				routes := []consumer.Route{{Topic: "own.{user}", Kind: consumer.PerUser}}
				s := serveOn(t, broker, Config{}, (*httptest.Server).Start, routes)
				first := open(t, s.url+"alice", "")
				first.next() // the checkpoint: records from now on are the stream's
				for i := range 6 {
					put(t, s.producer, "own.alice", "", fmt.Sprint("old", i))
				}
				first.until("old5")
				if err := broker.DeleteTopic("own.alice"); err != nil {
					t.Fatal(err)
				}
				again := open(t, serveOn(t, broker, Config{}, (*httptest.Server).Start, routes).url+"alice", first.last)
				again.next() // a checkpoint, which comes once the stream knows that the topic is missing
				if err := broker.CreateTopic("own.alice", 1, nil); err != nil {
					t.Fatal(err)
				}
				want := []string{`{"source":"own.alice","reason":"recreated"}`}
				for i := range records {
					want = append(want, fmt.Sprint("new", i))
					put(t, s.producer, "own.alice", "", want[i+1])
				}
				if diff := cmp.Diff(want, again.until(want[records])); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			})
		}
	}
}
