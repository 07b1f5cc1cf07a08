package consumer

import (
	"bytes"
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// routeSeeds are two routes and a user each.
var routeSeeds = [][3]string{
	{"notifications", "orders,user=header:owner", "alice"},
	{"notifications,partitioner=murmur2", "orders,partitioner=crc32,user=header:x", "alice"},
	{"orders,user=json:/owner/id", "orders,user=json:/a~1b,user=header:x", "alice"},
	{"team-news,claim=team", "rooms,user=header:room,claim=https://example.org/room", "red"},
	{"team-news,claim=team,user=json:/team", "notifications.{user}", "alice"},
	{"notifications.{user}", "announcements,kind=broadcast", "alice"},
	{"n.{user}", "n.admin", "admin"},
	{"a.{user}", "{user}.b", "x.b"},
	{"a{user}", "ab{user}", "bc"},
	{"{user}a", "{user}ba", "cb"},
	{"_{user}", "a.{user}.{user}", "_x"},
	{"a,kind=per-user", "{user},kind=broadcast", ".."},
	{"a.{user}.x", "a.{user}.y", "a/b"},
	{"a.{user},encode=base64url", "b.{user}", "YWxpY2U"},
	{"{user}_,encode=base64url", "b.{user}.c,encode=base64url", "auth0|42"},
}

// FuzzParseRoute checks that routes keep users apart. For any two routes that newRoutes accepts together, no
// two users get the same topic, and no user gets a topic that other users read or that Kafka keeps for itself.
func FuzzParseRoute(f *testing.F) {
	for _, seed := range routeSeeds {
		f.Add(seed[0], seed[1], seed[2])
	}
	f.Fuzz(func(t *testing.T, first, second, user string) {
		var list []Route
		for _, text := range []string{first, second} {
			r, err := ParseRoute(text)
			if err != nil {
				if r != (Route{}) {
					t.Fatalf("ParseRoute of %q returns %+v with error %v, want an empty route", text, r, err)
				}
				continue
			}
			again, err := ParseRoute(r.String())
			if diff := cmp.Diff(r, again); err != nil || diff != "" {
				t.Fatalf("%q is parsed differently when spelt %q: %v\n%s", text, r.String(), err, diff)
			}
			list = append(list, r)
			if m, ok := MessageFor([]Route{r}, user); ok && r.Claim != "" {
				t.Fatalf("a message for %q goes to %+v by %s, whose records are for values of a claim", user, m, r)
			}
		}
		rs, err := newRoutes(list)
		if err != nil {
			return
		}
		own, err := rs.userTopics(user)
		if err != nil {
			return
		}
		for name, route := range own {
			checkUserTopic(t, rs, user, name, route)
		}
		if m, ok := MessageFor(list, user); ok && len(own) > 0 && list[0].Kind == PerUser && own[m.Topic] == nil {
			t.Fatalf("a message for %q goes to %q, which is not the user's topic", user, m.Topic)
		}
	})
}

// checkUserTopic checks that the topic, one of the user's own topics by the route, belongs to no other user.
func checkUserTopic(t *testing.T, rs routes, user, name string, route *Route) {
	t.Helper()
	if strings.HasPrefix(name, "__") || len(name) > maxTopicName {
		t.Fatalf("%q has the topic %q, which is reserved or too long", user, name)
	}
	rec := new(Record) // a record finds its user by the topic's name
	route.setOwner(rec, route.owner(name))
	if string(rec.User) != user || rec.Broadcast {
		t.Fatalf("records in %q are for %q, want %q", name, rec.User, user)
	}
	for i := range rs {
		if rs[i].Topic == name {
			t.Fatalf("%q has the topic %q, which other users read", user, name)
		}
		// Another user whose own topic has the same name would share it.
		prefix, suffix, _ := strings.Cut(rs[i].Topic, userPlaceholder)
		if rs[i].Kind != PerUser || len(name) < len(prefix)+len(suffix) || !strings.HasPrefix(name, prefix) || !strings.HasSuffix(name, suffix) {
			continue
		}
		spelt := name[len(prefix) : len(name)-len(suffix)]
		decoded, _ := base64.RawURLEncoding.DecodeString(spelt)
		for _, other := range []string{spelt, string(decoded)} {
			if theirs, err := rs.userTopics(other); err == nil && other != user && theirs[name] != nil {
				t.Fatalf("%q and %q share the topic %q", user, other, name)
			}
		}
	}
}

// TestUsersOfAnyNameHaveTopics has the topics of a route that spells users in base64url, and topics that no user has.
func TestUsersOfAnyNameHaveTopics(t *testing.T) {
	r, err := ParseRoute("n.{user}.x,encode=base64url")
	if err != nil {
		t.Fatal(err)
	}
	rs, err := newRoutes([]Route{r})
	if err != nil {
		t.Fatal(err)
	}
	longest := strings.Repeat("é", 91) + "a" // 183 bytes take 244 characters
	for user, topic := range map[string]string{
		"alice": "n.YWxpY2U.x", "auth0|42": "n.YXV0aDB8NDI.x", "a@example.org": "n.YUBleGFtcGxlLm9yZw.x", "日本": "n.5pel5pys.x", "?>": "n.Pz4.x", "...": "n.Li4u.x",
		longest: r.TopicFor(longest),
	} {
		own, err := rs.userTopics(user)
		if err != nil || len(own) != 1 || own[topic] == nil {
			t.Errorf("%q has the topics %v, want %s: %v", user, own, topic, err)
		}
		if got, ok := r.UserOf(topic); !ok || got != user {
			t.Errorf("%s is for %q (%v), want %q", topic, got, ok, user)
		}
		if m, ok := MessageFor(rs, user); !ok || m.Topic != topic {
			t.Errorf("a message for %q goes to %q", user, m.Topic)
		}
		if names := newOwnNames(rs); names.isPlain([]byte(user)) != (user == "alice") {
			t.Errorf("%q is plain: %v", user, names.isPlain([]byte(user)))
		}
	}
	if _, err := rs.userTopics(longest + "a"); !errors.Is(err, ErrUserTopic) {
		t.Errorf("a name that is too long: %v, want ErrUserTopic", err)
	}
	if names := newOwnNames(rs); !names.isPlain(bytes.Repeat([]byte("a"), 183)) || names.isPlain(bytes.Repeat([]byte("a"), 184)) {
		t.Error("the longest name that is plain does not have 183 bytes")
	}
	for _, topic := range []string{"n.YWxpY2V.x", "n.YWxpY2U=.x", "n.Y.x", "n.a.b.x", "n..x"} {
		if user, ok := r.UserOf(topic); ok {
			t.Errorf("%s is for %q, want nobody", topic, user)
		}
	}
}

// TestTopicTemplate has the names of topics without users.
func TestTopicTemplate(t *testing.T) {
	list := []Route{{Topic: "{user}.inbox", Kind: PerUser}, {Topic: "notifications.{user}", Kind: PerUser}, {Topic: "notifications.all", Kind: Broadcast}}
	for topic, want := range map[string]string{
		"notifications.alice": "notifications.{user}", "alice.inbox": "{user}.inbox", "notifications.all": "notifications.all", "notifications.": "notifications.",
	} {
		if got := TopicTemplate(list, topic); got != want {
			t.Errorf("the template of %s is %s, want %s", topic, got, want)
		}
	}
}
