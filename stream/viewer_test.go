package stream

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"herald/consumer"
)

// TestViewerName compares the names of viewers: tabs whose viewers have one name share a stream.
func TestViewerName(t *testing.T) {
	alice := Viewer{User: "alice"}
	tests := []struct {
		name   string
		viewer Viewer
		same   bool
	}{
		{"another token of the user", Viewer{User: "alice", TokenID: "2", Expires: time.Now(), IssuedAt: time.Now()}, true},
		{"another user", Viewer{User: "bob"}, false},
		{"a user whose name looks like a list", Viewer{User: `alice",null,null]`}, false},
		{"some types", Viewer{User: "alice", Types: []string{"a"}}, false},
		{"no types", Viewer{User: "alice", Types: []string{}}, false},
		{"some topics", Viewer{User: "alice", Topics: []string{"a"}}, false},
		{"no topics", Viewer{User: "alice", Topics: []string{}}, false},
		{"no value of a claim", Viewer{User: "alice", Claims: map[string][]string{"team": nil}}, true},
		{"a value of a claim", Viewer{User: "alice", Claims: map[string][]string{"team": {"red"}}}, false},
		{"a condition", Viewer{User: "alice", Where: consumer.Conditions{{Header: "a", Value: "b"}}}, false},
		{"a condition that no record meets", Viewer{User: "alice", Where: consumer.Conditions{}}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.viewer.name() == alice.name(); got != tt.same {
				t.Errorf("the names are the same: %v, want %v", got, tt.same)
			}
		})
	}
	if (Viewer{User: "\xff"}).name() == (Viewer{User: "\xfe"}).name() {
		t.Error("users of different bytes have the same name")
	}
	some := Viewer{User: "alice", Types: []string{"a", "b"}}
	if other := (Viewer{User: "alice", Types: []string{"b", "a", "b"}}); some.name() != other.name() {
		t.Error("the order of types changes the name")
	}
	if topics := (Viewer{User: "alice", Topics: []string{"a", "b"}}); some.name() == topics.name() {
		t.Error("types and topics have the same name")
	}
	teams := Viewer{User: "alice", Claims: map[string][]string{"team": {"red", "blue"}, "room": {"a"}}}
	if other := (Viewer{User: "alice", Claims: map[string][]string{"room": {"a"}, "team": {"blue", "red", "blue"}}}); teams.name() != other.name() {
		t.Error("the order of a claim's values changes the name")
	}
	for _, claims := range []map[string][]string{{"team": {"red", "blue"}, "room": {"b"}}, {"team": {"red"}, "room": {"a", "blue"}}, {"room": {"red", "blue"}, "team": {"a"}}, {"team": {"redblue"}, "room": {"a"}}} {
		if (Viewer{User: "alice", Claims: claims}).name() == teams.name() {
			t.Errorf("viewers with the claims %v and %v have the same name", claims, teams.Claims)
		}
	}
	if strings.Contains(some.name(), "alice") {
		t.Errorf("the name %q has the user", some.name())
	}
}

// TestViewerIsTold opens streams with positions and without. The first checkpoint of the former names the viewer. Tabs
// that share a stream rely on the name of each response, so no record may come before it.
func TestViewerIsTold(t *testing.T) {
	url, producer := serve(t)
	put(t, producer, "shared", "alice", "one")
	told := make(map[string]string)
	for _, query := range []string{"?since=earliest", "?since=earliest&fields=time", "?since=earliest&fields=time,pos", "?since=earliest&fields=pos&wait=1s"} {
		first := open(t, url+"alice&"+query[1:], "").next()
		var data struct{ Viewer string }
		if err := json.Unmarshal([]byte(first.data), &data); err != nil || first.kind != TypeCheckpoint {
			t.Fatalf("%s begins with %+v, %v", query, first, err)
		}
		told[query] = data.Viewer
	}
	name := told["?since=earliest&fields=time,pos"]
	want := map[string]string{"?since=earliest": "", "?since=earliest&fields=time": "", "?since=earliest&fields=time,pos": name, "?since=earliest&fields=pos&wait=1s": name}
	if diff := cmp.Diff(want, told); diff != "" || name == "" {
		t.Errorf("viewers told (-want +got):\n%s", diff)
	}
}
