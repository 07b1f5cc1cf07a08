package consumer

import (
	"errors"
	"fmt"
	"strings"
)

// Kind says how the records of a topic find their users.
type Kind int

const (
	// Shared is one topic for many users; the user is named in each record.
	Shared Kind = iota
	// PerUser is one topic a user; the user is a part of the topic's name.
	PerUser
	// Broadcast is one topic whose every record is for everyone.
	Broadcast
)

// String is the kind as a route's text spells it.
func (k Kind) String() string {
	switch k {
	case Shared:
		return "shared"
	case PerUser:
		return "per-user"
	case Broadcast:
		return "broadcast"
	default:
		return fmt.Sprintf("Kind(%d)", int(k))
	}
}

// userPlaceholder stands for the user in the name of a per-user route.
const userPlaceholder = "{user}"

// maxTopicName is Kafka's limit on the length of a topic's name, in bytes.
const maxTopicName = 249

// ErrUserTopic says that a user has no topic of a per-user route: the user's name cannot be a part
// of a topic's name, or the topic would be one that another route reads.
var ErrUserTopic = errors.New("user cannot have a topic")

// Route says which records belong to whom: a topic, or a family of topics, and where the user is
// found.
type Route struct {
	// Topic is the topic's name; for [PerUser] with "{user}" in it.
	Topic string
	Kind  Kind

	// UserHeader names the record header that holds the user of a [Shared] topic's record.
	// Empty: the record key does, or UserPointer.
	UserHeader string

	// UserPointer is a JSON pointer (RFC 6901) to the string in the value of a [Shared] topic's record
	// that is the user. A record without one belongs to nobody.
	UserPointer string

	// Partitioner is that of all producers of a [Shared] topic whose record key is the user. Then a
	// user's records are looked for in one partition only ([Homes]), and records that are found in
	// another are not delivered. Empty: they may be in any partition.
	Partitioner Partitioner
}

// ParseRoute reads a route as flags and configuration files spell it: NAME[,key=value…].
//
//	notifications                        shared, the record key is the user
//	notifications,partitioner=murmur2    the same; its producers choose partitions as the Java client does
//	orders,user=header:owner             shared, the header "owner" is the user
//	orders,user=json:/owner/id           shared, the string there in the value is the user
//	notifications.{user}                 one topic a user
//	announcements,kind=broadcast         for everyone
func ParseRoute(text string) (Route, error) {
	name, options, _ := strings.Cut(text, ",")
	r := Route{Topic: name, Kind: Shared}
	if strings.Contains(name, userPlaceholder) {
		r.Kind = PerUser
	}
	if options != "" {
		for option := range strings.SplitSeq(options, ",") {
			if err := r.set(option); err != nil {
				return Route{}, fmt.Errorf("topic %q: %w", text, err)
			}
		}
	}
	if err := r.validate(); err != nil {
		return Route{}, fmt.Errorf("topic %q: %w", text, err)
	}
	return r, nil
}

// UnmarshalText implements [encoding.TextUnmarshaler] as [ParseRoute] does.
func (r *Route) UnmarshalText(text []byte) error {
	route, err := ParseRoute(string(text))
	if err == nil {
		*r = route
	}
	return err
}

func (r *Route) set(option string) error {
	key, value, ok := strings.Cut(option, "=")
	if !ok {
		return fmt.Errorf("option %q is not key=value", option)
	}
	switch key {
	case "kind":
		for _, k := range []Kind{Shared, PerUser, Broadcast} {
			if value == k.String() {
				r.Kind = k
				return nil
			}
		}
		return fmt.Errorf("kind %q: want shared, per-user or broadcast", value)
	case "user":
		r.UserHeader, r.UserPointer = "", ""
		if value == "key" {
			return nil
		}
		if pointer, ok := strings.CutPrefix(value, "json:"); ok {
			r.UserPointer = pointer
			return checkPointer(pointer)
		}
		header, ok := strings.CutPrefix(value, "header:")
		if !ok || header == "" {
			return fmt.Errorf("user %q: want key, header:NAME or json:/POINTER", value)
		}
		r.UserHeader = header
		return nil
	case "partitioner":
		return r.Partitioner.set(value)
	default:
		return fmt.Errorf("unknown option %q: want kind, user or partitioner", key)
	}
}

func (r *Route) validate() error {
	n := strings.Count(r.Topic, userPlaceholder)
	bare := strings.Replace(r.Topic, userPlaceholder, "u", 1)
	switch {
	case r.Topic == "":
		return errors.New("a topic needs a name")
	case r.Kind == PerUser && n != 1:
		return fmt.Errorf("a per-user topic has %s in its name once", userPlaceholder)
	case r.Kind == PerUser && bare == "u":
		return fmt.Errorf("%s alone would let users name any topic: give it a fixed part, such as notifications.%[1]s", userPlaceholder)
	case r.Kind != PerUser && n > 0:
		return fmt.Errorf("%s in the name makes a topic per-user, not %s", userPlaceholder, r.Kind)
	case r.Kind != Shared && r.UserHeader != "":
		return fmt.Errorf("user=header:… is for shared topics, not for %s ones", r.Kind)
	case r.Kind != Shared && r.UserPointer != "":
		return fmt.Errorf("user=json:… is for shared topics, not for %s ones", r.Kind)
	case r.UserHeader != "" && r.UserPointer != "":
		return errors.New("a record's user is in a header or in the value, not in both")
	case r.Partitioner != "" && r.Kind != Shared:
		return fmt.Errorf("partitioner=… is for shared topics, not for %s ones", r.Kind)
	case r.Partitioner != "" && (r.UserHeader != "" || r.UserPointer != ""):
		return errors.New("partitioner=… is for topics whose record key is the user: neither a header nor the value chooses the partition")
	}
	if r.UserPointer != "" {
		if err := checkPointer(r.UserPointer); err != nil {
			return err
		}
	}
	if r.Partitioner != "" {
		if err := new(Partitioner).set(string(r.Partitioner)); err != nil {
			return err
		}
	}
	return validTopic(bare)
}

// validTopic applies Kafka's rules for topic names (org.apache.kafka.common.internals.Topic), and
// keeps users away from Kafka's internal topics, whose names start with two underscores.
func validTopic(name string) error {
	switch {
	case name == "" || name == "." || name == "..":
		return fmt.Errorf("%q is no topic name", name)
	case len(name) > maxTopicName:
		return fmt.Errorf("a topic name has at most %d characters, not %d", maxTopicName, len(name))
	case strings.HasPrefix(name, "__"):
		return fmt.Errorf("%q is a topic of Kafka's own", name)
	}
	for i := range len(name) {
		if !topicByte(name[i]) {
			return fmt.Errorf("character %q cannot be in a topic name (allowed: a-z A-Z 0-9 . _ -)", name[i])
		}
	}
	return nil
}

func topicByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '_' || c == '-'
}

// user returns the user a record of a [Shared] route is for; empty if the record names none.
func (r *Route) user(rec *Record) []byte {
	switch {
	case r.UserPointer != "":
		return userIn(rec.Value, r.UserPointer)
	case r.UserHeader != "":
		user, _ := rec.Header(r.UserHeader)
		return user
	default:
		return rec.Key
	}
}

// routes is a checked set of routes.
type routes []Route

// CheckRoutes says whether a [Consumer] takes this set of routes: there is at least one, and no
// topic has two meanings.
func CheckRoutes(list []Route) error {
	_, err := newRoutes(list)
	return err
}

// newRoutes refuses sets in which one topic would have two meanings.
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
			if a.Kind == PerUser && b.Kind == PerUser && overlap(a.Topic, b.Topic) {
				return nil, fmt.Errorf("per-user topics %q and %q can name the same topic for two users: give them different fixed parts", b.Topic, a.Topic)
			}
		}
	}
	return routes(list), nil
}

// overlap says whether some topic name fits both per-user patterns. With one placeholder each this
// is so when one prefix begins the other and one suffix ends the other; the case of names too
// short to hold both fixed parts is counted as an overlap too, which only refuses more.
func overlap(a, b string) bool {
	aPrefix, aSuffix, _ := strings.Cut(a, userPlaceholder)
	bPrefix, bSuffix, _ := strings.Cut(b, userPlaceholder)
	return (strings.HasPrefix(aPrefix, bPrefix) || strings.HasPrefix(bPrefix, aPrefix)) &&
		(strings.HasSuffix(aSuffix, bSuffix) || strings.HasSuffix(bSuffix, aSuffix))
}

// always returns the routes that are read whether or not a user is there.
func (rs routes) always() []*Route {
	var list []*Route
	for i := range rs {
		if rs[i].Kind != PerUser {
			list = append(list, &rs[i])
		}
	}
	return list
}

// userTopics returns the topics that belong to user alone, with their routes. The error is
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

// owner returns the user that a topic of a per-user route has in its name; empty for other routes.
func (r *Route) owner(topic string) []byte {
	if r.Kind != PerUser {
		return nil
	}
	prefix, suffix, _ := strings.Cut(r.Topic, userPlaceholder)
	return []byte(topic[len(prefix) : len(topic)-len(suffix)])
}

// userTopic returns the topic that the per-user route r gives user. The error is [ErrUserTopic].
func (rs routes) userTopic(r *Route, user string) (string, error) {
	if user == "" {
		return "", fmt.Errorf("%w: the name is empty", ErrUserTopic)
	}
	name := strings.Replace(r.Topic, userPlaceholder, user, 1)
	if err := validTopic(name); err != nil {
		return "", fmt.Errorf("%w: %w", ErrUserTopic, err)
	}
	for _, other := range rs.always() {
		if other.Topic == name {
			return "", fmt.Errorf("%w: %q is a %s topic", ErrUserTopic, name, other.Kind)
		}
	}
	return name, nil
}

// MessageFor returns an empty message that the first route that fits takes to user, or to everyone
// if user is empty; false if none does. A user's topic is never one that another route reads. Topics
// with the user in the value fit nobody.
func MessageFor(list []Route, user string) (Message, bool) {
	rs := routes(list)
	for i := range rs {
		r := &rs[i]
		if (r.Kind == Broadcast) != (user == "") || r.UserPointer != "" { // what is in a value is its writer's
			continue
		}
		switch {
		case r.Kind == PerUser:
			if name, err := rs.userTopic(r, user); err == nil {
				return Message{Topic: name}, true
			}
		case r.UserHeader != "":
			return Message{Topic: r.Topic, Headers: []Header{{Key: r.UserHeader, Value: []byte(user)}}}, true
		case r.Kind == Shared:
			return Message{Topic: r.Topic, Key: []byte(user), Partitioner: r.Partitioner}, true
		default:
			return Message{Topic: r.Topic}, true
		}
	}
	return Message{}, false
}
