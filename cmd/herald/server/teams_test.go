package server

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"herald/auth"
	"herald/consumer"
)

// teamRoutes has topics of users, of two claims, and of a claim whose values are in a header.
var teamRoutes = []consumer.Route{
	{Topic: "notifications"},
	{Topic: "teams", Claim: "team"},
	{Topic: "rooms", Claim: "room"},
	{Topic: "headed", Claim: "team", UserHeader: "to"},
}

// TestOnlyMembersGetTheirTeamsRecords writes records for users, teams and rooms that have the same names. Each stream gets the
// records of its token, live reading and replays alike, also with an event id that another token's stream has got.
func TestOnlyMembersGetTheirTeamsRecords(t *testing.T) {
	s := startSecured(t, func(cfg *Config) {
		cfg.Consumer.Routes = teamRoutes
		writeForAll(t, cfg.Consumer.Brokers, "red", "blue", "42")
	})
	claims := func(pairs ...string) map[string][]string {
		c, err := auth.ParseClaims(pairs)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	_, end := s.pollAll(t, auth.Identity{User: "red", Claims: claims("team=red", "room=red")}, "since=earliest")
	for _, test := range []struct {
		id   auth.Identity
		want []string
	}{
		{auth.Identity{User: "red"}, []string{"notifications red"}},
		{auth.Identity{User: "alice", Claims: claims("team=red")}, []string{"headed red", "teams red"}},
		{auth.Identity{User: "alice", Claims: claims("room=red")}, []string{"rooms red"}},
		{auth.Identity{User: "42", Claims: claims("team=42", "room=blue")}, []string{"headed 42", "notifications 42", "rooms blue", "teams 42"}},
		{auth.Identity{User: "alice", Claims: claims("team=red", "team=blue", "team=green")}, []string{"headed blue", "headed red", "teams blue", "teams red"}},
		{auth.Identity{User: "alice", Claims: claims("Team=red", "teams=red", "notifications=red")}, nil},
		{auth.Identity{User: "alice", Claims: claims("team=RED", "team= red", "team=re")}, nil},
	} {
		got, _ := s.pollAll(t, test.id, "since=earliest")
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", test.id, diff)
		}
		if got, _ := s.pollAll(t, test.id, "lastEventId="+end); got != nil {
			t.Errorf("%+v gets %q after the end", test.id, got)
		}
	}
}

// TestClaimsOfTheQuery opens a stream of a server that authenticates nobody.
func TestClaimsOfTheQuery(t *testing.T) {
	srv, _ := startServerWith(t, func(cfg *Config) {
		cfg.Consumer.Routes = teamRoutes
		writeForAll(t, cfg.Consumer.Brokers, "green", "red", "blue")
	})
	url := "http://" + srv.Addr().String() + "/events?since=earliest&user=alice"
	got := dataUntil(t, url+"&claim.room=blue&claim.room=red", "rooms red", "rooms blue")
	if diff := cmp.Diff([]string{"rooms red", "rooms blue"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestQueryGivesNoValues asks for values of a claim in the query, where tokens say who the user is. The cookie of a session
// stands for its token.
func TestQueryGivesNoValues(t *testing.T) {
	s := startSecured(t, func(cfg *Config) { cfg.Consumer.Routes = teamRoutes })
	header := bearer(s.token(t, auth.Identity{User: "alice", Publish: true}))
	_, answer, _ := request(t, http.MethodPost, s.url+"/session", header)
	cookie := http.Header{"Cookie": {strings.Split(answer.Get("Set-Cookie"), ";")[0]}}
	for _, header := range []http.Header{header, cookie} {
		for _, query := range []string{"claim.team=red", "claim.team=red&claim.team=blue", "claim%2Eteam=red", "CLAIM.team=red", "claim.=red", "team=red", "where=header:region=eu"} {
			if status, _, text := request(t, http.MethodGet, s.url+"/events?wait=0s&"+query, header); status != http.StatusBadRequest {
				t.Errorf("GET %s: %d %s", query, status, text)
			}
			if status, _, text := request(t, http.MethodPost, s.url+"/users/red/notifications?"+query, header); status != http.StatusBadRequest {
				t.Errorf("POST %s: %d %s", query, status, text)
			}
		}
		if status, _, _ := request(t, http.MethodGet, s.url+"/events?wait=0s", header); status != http.StatusOK {
			t.Errorf("without values: %d", status)
		}
	}
}

// writeForAll writes a record for each of the names to each topic of teamRoutes.
func writeForAll(t *testing.T, brokers []string, names ...string) {
	t.Helper()
	producer := consumer.NewProducer(brokers, nil, nil)
	t.Cleanup(producer.Close)
	for _, name := range names {
		for _, route := range teamRoutes {
			m := consumer.Message{Topic: route.Topic, Key: []byte(name), Value: []byte(route.Topic + " " + name), Headers: []consumer.Header{{Key: "to", Value: []byte(name)}}}
			if _, err := producer.Produce(t.Context(), m); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// pollAll polls until nothing more is there. It returns the data of the records, sorted, and the last event id.
func (s *secured) pollAll(t *testing.T, id auth.Identity, query string) (data []string, lastID string) {
	t.Helper()
	header := bearer(s.token(t, id))
	header.Set("Accept", "application/json")
	for {
		var answer struct {
			Events      []struct{ Type, Data string }
			LastEventID string `json:"lastEventId"`
			Live        bool
		}
		status, _, text := request(t, http.MethodGet, s.url+"/events?"+query, header)
		if err := json.Unmarshal([]byte(text), &answer); err != nil || status != http.StatusOK {
			t.Fatalf("%d %s: %v", status, text, err)
		}
		for _, e := range answer.Events {
			if e.Type != "gap" {
				data = append(data, e.Data)
			}
		}
		if answer.Live {
			slices.Sort(data)
			return data, answer.LastEventID
		}
		query = "wait=100ms&lastEventId=" + answer.LastEventID
	}
}
