package integration

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"
)

// teamsTest has topics whose records are for users, for teams and for rooms, and viewers who have some of them. Users,
// teams and rooms have the same names.
type teamsTest struct {
	b       *broker
	routes  []string
	topics  map[string]string // by the kind of owner
	secret  string
	written []string // "KIND OWNER ROUND" of each record, in the order of writing
}

// teamViewers are the claims of viewers, by their names.
var teamViewers = map[string]struct {
	user string
	args []string
	owns []string // "KIND OWNER"
}{
	"a red one":           {"alice", []string{"--claim=team=red"}, []string{"user alice", "team red"}},
	"a blue one":          {"carl", []string{"--claim=team=blue"}, []string{"user carl", "team blue"}},
	"one of both teams":   {"bob", []string{"--claim=team=red", "--claim=team=blue", "--claim=team=empty"}, []string{"user bob", "team red", "team blue"}},
	"one in the room red": {"dora", []string{"--claim=room=red"}, []string{"user dora", "room red"}},
	"the user red":        {"red", nil, []string{"user red"}},
	"the user blue":       {"blue", []string{"--claim=team=red", "--claim=room=alice"}, []string{"user blue", "team red", "room alice"}},
}

// write writes a record for each owner of each kind to all partitions. One more record names no owner.
func (k *teamsTest) write(t *testing.T, round int) {
	t.Helper()
	var records []*kgo.Record
	for i, owner := range []string{"red", "blue", "alice", "bob", "carl", ""} {
		for _, kind := range []string{"user", "team", "room"} {
			value := fmt.Sprintf("%s %s %d", kind, owner, round)
			r := inPartition(int32(i+round)%3, record(k.topics[kind], owner, value))
			if owner == "" {
				r.Key = nil
			}
			records = append(records, r)
			k.written = append(k.written, value)
		}
	}
	k.b.produce(t, records...)
}

// fill writes large records. A replica with the smallest cache then no longer holds any earlier record.
func (k *teamsTest) fill(t *testing.T) {
	t.Helper()
	for range 40 {
		k.b.produce(t, record(k.topics["user"], "nobody", strings.Repeat("x", 64<<10)))
	}
}

// recordsOf returns the records of the owners that were written in some rounds, sorted.
func (k *teamsTest) recordsOf(owners []string, rounds ...int) []string {
	var want []string
	for _, owner := range owners {
		for _, round := range rounds {
			if value := fmt.Sprint(owner, " ", round); slices.Contains(k.written, value) {
				want = append(want, value)
			}
		}
	}
	slices.Sort(want)
	return want
}

// token returns a token of the user with the arguments of herald token.
func (k *teamsTest) token(t *testing.T, user string, args ...string) string {
	t.Helper()
	return newToken(t, append([]string{"--jwt-secret-file=" + k.secret, "--user=" + user}, args...)...)
}

// poll asks a replica for all records after the id. It returns the records, sorted, the topics of gaps, and the last id.
func (k *teamsTest) poll(t *testing.T, h *herald, token, lastID string) (records, gaps []string, id string) {
	t.Helper()
	s := newStream(t, h.public, "")
	s.url, s.Token, s.LastID = "http://"+h.public+"/events?wait=0s", token, lastID
	s.Connect()
	for _, e := range s.AwaitEnd() {
		switch e.Type {
		case "message":
			records = append(records, e.Data)
		case "gap", "end":
			gaps = append(gaps, e.Data)
		}
	}
	slices.Sort(records)
	return records, gaps, s.LastID
}

// TestTeams writes records for users, teams and rooms of the same names. Each viewer must get the records of its
// user and of its values, live, from the tail and from Kafka, and no others. Then a client returns with other values.
func TestTeams(t *testing.T) {
	k := &teamsTest{b: sharedBroker(t), topics: make(map[string]string), secret: newSecretFile(t)}
	for kind, option := range map[string]string{"user": "", "team": ",claim=team", "room": ",claim=room"} {
		k.topics[kind] = k.b.newTopic(t, kind, 3)
		k.routes = append(k.routes, "--topic="+k.topics[kind]+option)
	}
	replica := func(args ...string) *herald {
		args = append(args, "--brokers="+k.b.addresses[0], "--group="+topicName(t, "group"), "--replica=test", "--jwt-secret-file="+k.secret)
		h := newProcess(t, "serve", append(args, k.routes...)...)
		h.Start()
		return h
	}
	live, old := replica(), replica("--replay-cache-bytes=1048576")

	streams, first := make(map[string]*eventSource), make(map[string]string)
	for name, viewer := range teamViewers {
		s := newStream(t, live.public, "")
		s.url, s.Token = "http://"+live.public+"/events", k.token(t, viewer.user, viewer.args...)
		s.Connect()
		s.Checkpoint()
		streams[name], first[name] = s, s.LastID
	}
	for round := range 4 {
		k.write(t, round)
	}
	k.fill(t)
	waitForRound(t, k, old, 3)
	for name, viewer := range teamViewers {
		want := k.recordsOf(viewer.owns, 0, 1, 2, 3)
		got := streams[name].Values(len(want))
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s, live (-want +got):\n%s", name, diff)
		}
		streams[name].Cut()
		for from, h := range map[string]*herald{"the tail": live, "Kafka": old} {
			for id, want := range map[string][]string{first[name]: want, streams[name].LastID: nil} {
				if got, gaps, _ := k.poll(t, h, streams[name].Token, id); len(gaps) > 0 || !cmp.Equal(want, got) {
					t.Errorf("%s, from %s after the id %s: gaps %q (-want +got):\n%s", name, from, id, gaps, cmp.Diff(want, got))
				}
			}
		}
	}
	red := streams["a red one"]
	_, _, last := k.poll(t, live, red.Token, red.LastID) // a position after all rounds: the last record of the team may be before others
	k.changeTeams(t, map[string]*herald{"the tail": live, "Kafka": old}, first["a red one"], last)
	for series, h := range map[string]*herald{"herald_kafka_tail_replays_total": live, "herald_kafka_replay_passes_total": old} {
		if h.Metric(series) == 0 {
			t.Errorf("%s is 0: the records did not come from where the test wants them from", series)
		}
	}
}

// changeTeams returns as alice with other teams. Her position stays, and from there on she gets the records of her present
// teams. Without a team, her ids do not name the topic, so that a gap reports the topic when she has one again.
func (k *teamsTest) changeTeams(t *testing.T, replicas map[string]*herald, first, last string) {
	t.Helper()
	k.write(t, 4)
	k.fill(t)
	blue, none := k.token(t, "alice", "--claim=team=blue"), k.token(t, "alice")
	for from, h := range replicas {
		waitForRound(t, k, h, 4)
		for _, test := range []struct {
			name, token, id string
			want            []string
		}{
			{"blue after the first id", blue, first, k.recordsOf([]string{"user alice", "team blue"}, 0, 1, 2, 3, 4)},
			{"blue after the last id", blue, last, k.recordsOf([]string{"user alice", "team blue"}, 4)},
			{"no team after the first id", none, first, k.recordsOf([]string{"user alice"}, 0, 1, 2, 3, 4)},
		} {
			if got, gaps, _ := k.poll(t, h, test.token, test.id); len(gaps) > 0 || !cmp.Equal(test.want, got) {
				t.Errorf("%s, from %s: gaps %q (-want +got):\n%s", test.name, from, gaps, cmp.Diff(test.want, got))
			}
		}
		_, _, without := k.poll(t, h, none, last)
		got, gaps, _ := k.poll(t, h, blue, without)
		if want := fmt.Sprintf(`[{"source":"%s","reason":"unknown-id"}]`, k.topics["team"]); len(got) > 0 || fmt.Sprint(gaps) != want {
			t.Errorf("blue after an id without the topic, from %s: %q and gaps %q, want %s", from, got, gaps, want)
		}
	}
}

// waitForRound waits until a replica has read all records of the round.
func waitForRound(t *testing.T, k *teamsTest, h *herald, round int) {
	t.Helper()
	token := k.token(t, "alice", "--claim=team=red", "--claim=team=blue")
	s := newStream(t, h.public, "")
	s.url, s.Token = "http://"+h.public+"/events?since=earliest", token
	s.Connect()
	rounds := make([]int, round+1)
	for i := range rounds {
		rounds[i] = i
	}
	s.Values(len(k.recordsOf([]string{"user alice", "team red", "team blue"}, rounds...)))
	s.Cut()
}
