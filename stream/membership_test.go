package stream

import (
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/labstack/echo/v4"
	"github.com/twmb/franz-go/pkg/kfake"

	"herald/consumer"
	"herald/consumer/batch"
)

// member returns the subscription of a stream that has caught up and whose viewer has the claims, "team=red" for example.
func member(h *Hub, user string, claims ...string) *subscription {
	values := make(map[string][]string)
	for _, text := range claims {
		claim, value, _ := strings.Cut(text, "=")
		values[claim] = append(values[claim], value)
	}
	s := newSubscription(user, 1<<20, &clientStream{env: &streamEnv{overflow: func(*subscription) {}}}, func(*clientStream) {})
	s.members = newMemberships(values)
	for _, t := range []consumer.UserTopic{{Topic: "rooms", Claim: "room"}, {Topic: "shared"}, {Topic: "teams", Claim: "team"}} {
		if s.hasTopic(&t, nil) {
			s.topics = append(s.topics, t)
		}
	}
	h.addSubscription(s)
	s.acceptLiveRecords()
	return s
}

// taken returns the records that wait in the queue.
func taken(s *subscription) (got []string) {
	q, _, _ := s.takeQueue()
	if q == nil {
		return nil
	}
	for i := range q.items {
		got = append(got, fmt.Sprint(q.items[i].partition.Topic, " ", q.items[i].offset))
	}
	return got
}

// deliver hands the hub one record of the topic.
func deliver(h *Hub, topic, claim, owner string, offset int64) {
	r := consumer.Record{Record: batch.Record{Offset: offset, Value: []byte("v")}, Claim: claim, User: []byte(owner)}
	h.Deliver(consumer.Partition{Topic: topic}, []consumer.Record{r}, offset+1)
}

// newTeamHub returns a hub with a topic for users, one for teams and one for rooms.
func newTeamHub() *Hub {
	h := NewHub("event-type", nil)
	for i, topic := range []string{"rooms", "shared", "teams"} {
		h.Begin(consumer.Partition{Topic: topic}, [16]byte{byte(i + 1)}, 0)
	}
	return h
}

// TestHubKeepsOwnersApart delivers records for the user red, the team red, the room red and others. Each stream must get the
// records of its own user and values, each once.
func TestHubKeepsOwnersApart(t *testing.T) {
	h := newTeamHub()
	tests := map[string]struct {
		stream *subscription
		want   []string
	}{
		"the user red":             {member(h, "red"), []string{"shared 1"}},
		"the team red":             {member(h, "alice", "team=red"), []string{"teams 1"}},
		"another one of the team":  {member(h, "bob", "team=red", "team=red", "team="), []string{"teams 1"}},
		"the room red":             {member(h, "carl", "room=red"), []string{"rooms 1"}},
		"the team blue":            {member(h, "dora", "team=blue"), []string{"teams 2"}},
		"both teams":               {member(h, "eve", "team=blue", "team=red", "room=green"), []string{"teams 1", "teams 2"}},
		"the user red in red":      {member(h, "red", "team=red", "room=red"), []string{"rooms 1", "shared 1", "teams 1"}},
		"a claim with no topic":    {member(h, "frank", "tenant=red"), nil},
		"a claim like another's":   {member(h, "gina", "tea=mred", "teamr=ed", "=teamred"), nil},
		"a value with a separator": {member(h, "hans", "team=red\x00", "team=red,blue", "team=RED"), nil},
	}
	for offset, owner := range []string{"", "red", "blue", "nobody"} {
		for topic, claim := range map[string]string{"shared": "", "teams": "team", "rooms": "room"} {
			deliver(h, topic, claim, owner, int64(offset))
		}
	}
	for name, test := range tests {
		got := taken(test.stream)
		slices.Sort(got)
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// TestMembersLeaveInAnyOrder removes streams of several values in a random order, some twice. The remaining streams must get
// each record of their values, the others none, and nothing may be left in the end.
func TestMembersLeaveInAnyOrder(t *testing.T) {
	for range 50 {
		h := newTeamHub()
		var list []*subscription
		for i := range 12 {
			var claims []string
			for j, value := range []string{"a", "b", "c"} {
				if i&(1<<j) != 0 {
					claims = append(claims, "team="+value, "room="+value)
				}
			}
			list = append(list, member(h, "alice", claims...))
		}
		removed := make(map[*subscription]bool)
		for offset, at := range rand.Perm(len(list)) {
			for range 1 + rand.IntN(2) {
				h.removeSubscription(list[at])
			}
			removed[list[at]] = true
			deliver(h, "teams", "team", "b", int64(offset))
			for i, s := range list {
				if got, want := len(taken(s)) > 0, !removed[s] && slices.Contains(s.members.valuesOf("team"), "b"); got != want {
					t.Fatalf("after %d removals stream %d has got the record: %t, want %t", offset+1, i, got, want)
				}
			}
		}
		if len(h.values) > 0 || len(h.users) > 0 || h.topics["teams"].readers.count() > 0 {
			t.Fatal("the hub has a stream after all were removed")
		}
	}
}

// TestTeamWhileStreamsComeAndGo delivers records for a team of more streams than a visit calls at once, while other members
// of the team, and members of another team, come and go. The members that stay must get each record of the team once. Nobody
// may get a record of another team.
func TestTeamWhileStreamsComeAndGo(t *testing.T) {
	const staying, records = 3 * readersAtOnce, 200
	h := newTeamHub()
	var list []*subscription
	for range staying {
		list = append(list, member(h, "alice", "team=red", "team=green"))
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for !isClosed(done) {
				red, blue := member(h, "bob", "team=red"), member(h, "carl", "team=blue")
				h.removeSubscription(red)
				h.removeSubscription(blue)
				for _, got := range taken(blue) {
					t.Errorf("a stream of the team blue got %s", got)
				}
			}
		})
	}
	var want []string
	for offset := range int64(records) {
		deliver(h, "teams", "team", "red", offset)
		want = append(want, fmt.Sprint("teams ", offset))
	}
	close(done)
	wg.Wait()
	for i, s := range list {
		if diff := cmp.Diff(want, slices.Compact(taken(s))); diff != "" { // a visit may call for a stream twice, and the stream drops the second item
			t.Fatalf("stream %d (-want +got):\n%s", i, diff)
		}
	}
}

// TestTeamsThroughABroker resumes streams of several teams after each event, from the tail and from Kafka. A client has
// other teams in each stream. Each stream must get the records of the teams that it has.
func TestTeamsThroughABroker(t *testing.T) {
	for from, cache := range map[string]int{"the tail": 0, "Kafka": -1} { // 0 is the default
		t.Run(from, func(t *testing.T) {
			broker := startBroker(t, kfake.SeedTopics(1, "shared", "teams", "rooms"))
			routes := []consumer.Route{{Topic: "shared"}, {Topic: "teams", Claim: "team"}, {Topic: "rooms", Claim: "room"}}
			viewer := func(c echo.Context) (Viewer, error) {
				return Viewer{User: c.QueryParam("user"), Claims: map[string][]string{"team": c.QueryParams()["team"], "room": c.QueryParams()["room"]}}, nil
			}
			s := serveConsumer(t, broker, Config{Viewer: viewer}, consumer.Config{Routes: routes, ReplayCacheBytes: cache}, (*httptest.Server).Start)
			last := ""
			for round, teams := range []string{"red", "blue", "red&team=blue", "alice", "blue&team=red&team=green", "red"} {
				c := open(t, s.url+"alice&team="+teams, last)
				first := c.next()
				if e := first; e.kind != TypeCheckpoint || strings.Contains(e.id, tag("rooms")) {
					t.Fatalf("the stream begins with %+v, want an id without the topic rooms", e)
				}
				want, own := map[string]bool{}, strings.Split(teams, "&team=")
				owners := slices.DeleteFunc([]string{"red", "blue", "alice", "bob"}, func(owner string) bool { return slices.Contains(own, owner) })
				for _, owner := range append(owners, own...) { // the last position is after all others' records
					for _, topic := range []string{"rooms", "teams", "shared"} {
						put(t, s.producer, topic, owner, fmt.Sprintf("%s %s %d", topic, owner, round))
					}
					if slices.Contains(own, owner) {
						want[fmt.Sprintf("teams %s %d", owner, round)] = true
					}
				}
				want[fmt.Sprintf("shared alice %d", round)] = true
				for resumed := range 2 {
					got := map[string]bool{}
					for len(got) < len(want) {
						if e := c.next(); e.kind == "" {
							got[e.data] = true
						} else if e.kind != TypeCheckpoint {
							t.Fatalf("%+v", e)
						}
					}
					if diff := cmp.Diff(want, got); diff != "" {
						t.Fatalf("%s, resumed %d times with the teams %s (-want +got):\n%s", from, resumed, teams, diff)
					}
					_ = c.res.Body.Close()
					last = c.last
					if resumed == 0 {
						c = open(t, s.url+"alice&team="+teams, first.id)
					}
				}
			}
		})
	}
}

// BenchmarkAbsentOwners delivers records for users, and for teams, without a stream.
func BenchmarkAbsentOwners(b *testing.B) {
	for topic, claim := range map[string]string{"shared": "", "teams": "team"} {
		b.Run(topic, func(b *testing.B) {
			h := newTeamHub()
			member(h, "alice", "team=red")
			records := make([]consumer.Record, 512)
			for i := range records {
				records[i] = consumer.Record{Record: batch.Record{Value: []byte("v")}, Claim: claim, User: fmt.Append(nil, "nobody", i)}
			}
			b.ReportAllocs()
			for range b.N/len(records) + 1 {
				h.Deliver(consumer.Partition{Topic: topic}, records, 0)
			}
		})
	}
}
