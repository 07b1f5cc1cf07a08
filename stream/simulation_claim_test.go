package stream

import (
	"encoding/json"
	"fmt"
	"slices"

	"herald/consumer"
)

// This part of the model covers topics with a claim: records for values, and clients whose viewers have several values. The
// values of the claim team may differ from one stream of a client to its next; a client always has the same rooms, often
// none. Users, teams and rooms have the same names.

// ownerNames are the names of teams and of rooms; alice is also a user.
var ownerNames = []string{"alice", "red", "blue"}

// addClaims adds the topics with claims to some worlds.
func (w *world) addClaims(topics []*logTopic) []*logTopic {
	if w.claims = w.random.IntN(3) == 0; !w.claims {
		return topics
	}
	return append(topics, &logTopic{name: "room", kind: consumer.Shared, claim: "room"}, &logTopic{name: "team", kind: consumer.Shared, claim: "team"})
}

// chooseNames returns some of the names, at least the given number.
func (w *world) chooseNames(least int) (names []string) {
	for len(names) < least {
		names = slices.DeleteFunc(slices.Clone(ownerNames), func(string) bool { return w.random.IntN(2) == 0 })
	}
	return names
}

// chooseClaims chooses the values that the viewer of the client's next stream has.
func (w *world) chooseClaims(c *simClient) {
	if !w.claims {
		return
	}
	if c.claims == nil {
		c.claims = map[string][]string{"room": w.chooseNames(0)}
		c.teams = ownerNames
	}
	c.claims["team"] = w.chooseNames(1)
	c.teams = slices.DeleteFunc(slices.Clone(c.teams), func(team string) bool { return !slices.Contains(c.claims["team"], team) })
	c.stream.sub.members = newMemberships(c.claims)
}

// claimTopics returns the topics with claims that a consumer reports.
func (w *world) claimTopics(claim string) []consumer.UserTopic {
	if !w.claims {
		return nil
	}
	return []consumer.UserTopic{{Topic: claim, Claim: claim}}
}

// checkOwner checks that an event of a topic with a claim is for a value that the viewer of the client's present stream
// has, and that ids do not name a topic of which the viewer has no value.
func (w *world) checkOwner(c *simClient, e event) {
	if !w.claims {
		return
	}
	if sources, _ := decodeID(e.id); len(c.claims["room"]) == 0 && len(sources[tag("room")].positions) > 0 {
		w.wrong = append(w.wrong, fmt.Sprintf("the id %q names a topic that %s has no value for", e.id, c.user))
	}
	var g receivedGap
	if e.kind == TypeGap && json.Unmarshal([]byte(e.data), &g) == nil && g.Reason == consumer.GapUndecodable {
		w.checkGapOwner(c, e, &g)
	}
	var id byte
	if _, err := fmt.Sscanf(e.data, "%d/", &id); err != nil || e.kind != TypeMessage && e.kind != TypeDelete {
		return
	}
	if topic, rec := w.past[[16]byte{id}], w.values[e.data]; topic.claim != "" && !slices.Contains(c.claims[topic.claim], rec.user) {
		w.wrong = append(w.wrong, fmt.Sprintf("%s with the values %v got %s of the %s %s", c.user, c.claims, e.data, topic.claim, rec.user))
	}
}

// checkGapOwner checks that the gap of a record that cannot be decoded is for such a value too.
func (w *world) checkGapOwner(c *simClient, e event, g *receivedGap) {
	topic := w.named(e.id, g.Source)
	if topic == nil || topic.claim == "" {
		return
	}
	part := topic.partitions[g.Partition]
	if part.cuts > 0 { // another record may have been there
		return
	}
	if user := part.records[g.From].user; !slices.Contains(c.claims[topic.claim], user) {
		w.wrong = append(w.wrong, fmt.Sprintf("%s with the values %v got the gap of a record of the %s %s", c.user, c.claims, topic.claim, user))
	}
}

// owns reports whether the record is for the client, in all streams that it has had.
func (c *simClient) owns(topic *logTopic, rec *consumer.Record) bool {
	switch topic.claim {
	case "":
		return rec.Broadcast || string(rec.User) == c.user
	case "team":
		return slices.Contains(c.teams, string(rec.User))
	default:
		return slices.Contains(c.claims[topic.claim], string(rec.User))
	}
}

// ownersOf returns whose records the replica replays for a range, as the consumer does.
func (r *replica) ownersOf(at *consumer.Range, user string) (owners [][]byte) {
	topic := r.topic(at.Topic)
	switch {
	case topic.kind == consumer.Broadcast:
		return [][]byte{nil}
	case topic.claim == "" || r.planted == "the replay takes a value for a user":
		return [][]byte{[]byte(user)}
	}
	for _, value := range at.Values {
		owners = append(owners, []byte(value))
	}
	if r.planted == "the replay knows one value" {
		owners = owners[:1]
	}
	return owners
}

// claimOf returns the claim of the record as the replica delivers it live.
func (t *logTopic) claimOf(planted string) string {
	switch {
	case t.claim != "" && planted == "the hub takes a value for a user":
		return ""
	case t.claim == "team" && planted == "the hub takes a team for a room":
		return "room"
	}
	return t.claim
}
