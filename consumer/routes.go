package consumer

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// routes is a checked set of routes.
type routes []Route

// CheckRoutes returns an error if a [Consumer] would refuse this set of routes: the set is empty, a route is
// not valid, or two routes could read the same topic.
func CheckRoutes(list []Route) error {
	_, err := newRoutes(list)
	return err
}

// newRoutes checks a set of routes. No topic may have two meanings.
func newRoutes(list []Route) (routes, error) {
	if len(list) == 0 {
		return nil, errors.New("no topic to read")
	}
	for i := range list {
		a := &list[i]
		if err := a.validate(); err != nil {
			return nil, fmt.Errorf("topic %q: %w", a.Topic, err)
		}
		for j := range i {
			b := &list[j]
			if a.Topic == b.Topic {
				return nil, fmt.Errorf("topic %q is given twice", a.Topic)
			}
			if a.Kind == PerUser && b.Kind == PerUser && overlap(a, b) {
				return nil, fmt.Errorf("per-user topics %q and %q can name the same topic for two users: give them different fixed parts", b.Topic, a.Topic)
			}
		}
	}
	return routes(list), nil
}

// overlap says whether two per-user routes could give two users the same topic. Each name has one
// placeholder, so the routes overlap when one prefix begins the other and one suffix ends the other. A name
// that is too short for both fixed parts counts too, which only refuses more routes.
func overlap(a, b *Route) bool {
	aPrefix, aSuffix := a.fixedParts()
	bPrefix, bSuffix := b.fixedParts()
	return (strings.HasPrefix(aPrefix, bPrefix) || strings.HasPrefix(bPrefix, aPrefix)) &&
		(strings.HasSuffix(aSuffix, bSuffix) || strings.HasSuffix(bSuffix, aSuffix))
}

// static returns the routes that are read whether or not a user has a stream.
func (rs routes) static() []*Route {
	var list []*Route
	for i := range rs {
		if rs[i].Kind != PerUser {
			list = append(list, &rs[i])
		}
	}
	return list
}

// userTopics returns the topics of per-user routes that belong to user, with their routes. The error is
// [ErrUserTopic].
func (rs routes) userTopics(user string) (map[string]*Route, error) {
	topics := make(map[string]*Route)
	for i := range rs {
		if rs[i].Kind != PerUser {
			continue
		}
		name, err := rs.userTopic(&rs[i], user)
		if err != nil {
			return nil, err
		}
		topics[name] = &rs[i]
	}
	return topics, nil
}

// userTopic returns the topic of the per-user route r that belongs to user. The error is [ErrUserTopic].
func (rs routes) userTopic(r *Route, user string) (string, error) {
	if user == "" {
		return "", fmt.Errorf("%w: the name is empty", ErrUserTopic)
	}
	name := r.TopicFor(user)
	if err := checkTopicName(name); err != nil {
		others := "routes without {user} and routes with encode=base64url take other names"
		if r.Encoding != "" {
			others = "routes without {user} take longer names"
		}
		return "", fmt.Errorf("%w by the route %s: %w; %s", ErrUserTopic, r, err, others)
	}
	for _, other := range rs.static() {
		if other.Topic == name {
			return "", fmt.Errorf("%w: %q is a %s topic", ErrUserTopic, name, other.Kind)
		}
	}
	return name, nil
}

// MessageFor returns a message with the headers and without a value that goes to user, or to everyone if user is empty.
// It uses the first route that can carry the message, and returns false if no route can. A route with the user in
// the value cannot: the value is its writer's. A route with a claim cannot: its records are for a value of the claim, and
// not for the user of that name. A route cannot if a schema id precedes its values. A user's topic is never a topic that
// another route reads. If the route has a condition, the message gets a header that meets it. A route cannot carry a
// message whose headers contradict it.
func MessageFor(list []Route, user string, headers ...Header) (Message, bool) {
	return routes(list).messageFor(user, headers, func(r *Route) bool { return (r.Kind == Broadcast) == (user == "") && r.Claim == "" })
}

// MessageForClaim is [MessageFor] for everyone whose token has the value of the claim.
func MessageForClaim(list []Route, claim, value string, headers ...Header) (Message, bool) {
	return routes(list).messageFor(value, headers, func(r *Route) bool { return claim != "" && r.Claim == claim })
}

// messageFor returns a message for the user, or the value of a claim, by the first route that fits and can carry it.
func (rs routes) messageFor(user string, headers []Header, fits func(*Route) bool) (Message, bool) {
	for i := range rs {
		r := &rs[i]
		own, ok := r.headersFor(user, headers)
		if !ok || !fits(r) || r.UserPointer != "" || r.FramesValues() {
			continue
		}
		m := Message{Topic: r.Topic, Headers: own}
		switch {
		case r.Kind == PerUser:
			name, err := rs.userTopic(r, user)
			if err != nil {
				continue
			}
			m.Topic = name
		case r.Kind == Shared && r.UserHeader == "":
			m.Key, m.Partitioner = []byte(user), r.Partitioner
		}
		return m, true
	}
	return Message{}, false
}

// headersFor returns the headers of a message for user: first the headers that the route needs, then the headers that the writer gives.
// It returns false if these contradict the route, because the last header of a name counts.
func (r *Route) headersFor(user string, given []Header) (headers []Header, ok bool) {
	if r.UserHeader != "" {
		headers = append(headers, Header{Key: r.UserHeader, Value: []byte(user)})
	}
	if r.Where != (Condition{}) {
		headers = append(headers, Header{Key: r.Where.Header, Value: []byte(r.Where.Value)})
	}
	for _, needed := range headers {
		for _, h := range given {
			if h.Key == needed.Key && string(h.Value) != string(needed.Value) {
				return nil, false
			}
		}
	}
	return append(headers, given...), true
}

// TopicTemplate returns the name of a topic that the routes read as the route has it: with "{user}" in place of the user,
// if the topic is a user's own.
func TopicTemplate(list []Route, topic string) string {
	if slices.ContainsFunc(routes(list).static(), func(r *Route) bool { return r.Topic == topic }) {
		return topic
	}
	for i := range list {
		if _, ok := list[i].UserOf(topic); ok {
			return list[i].Topic
		}
	}
	return topic
}
