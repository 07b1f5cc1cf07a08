package consumer

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Kind says how Herald finds the user that a record of a topic is for.
type Kind int

const (
	// Shared is one topic for many users. Each record names its user.
	Shared Kind = iota
	// PerUser is one topic for each user. The topic's name contains the user.
	PerUser
	// Broadcast is one topic for everyone.
	Broadcast
)

// String returns the kind as the text of a route spells it.
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

// userPlaceholder stands for the user in the topic of a per-user route. Only methods of [Route] cut a name
// at it or replace it.
const userPlaceholder = "{user}"

// maxTopicName is how long a topic's name may be in Kafka, in bytes.
const maxTopicName = 249

// ErrUserTopic says that a user cannot have a topic of a per-user route, because the topic's name would not
// be allowed in Kafka, or because another route reads a topic with this name.
var ErrUserTopic = errors.New("user cannot have a topic")

// Route is a topic, or a topic for each user, and the place where its records name their user.
type Route struct {
	// Topic is the topic's name. With [PerUser] it contains "{user}" once.
	Topic string
	Kind  Kind

	// UserHeader is the key of the record header that holds the user of a record of a [Shared] topic.
	// If it is empty, UserPointer says where the user is, or the record key is the user.
	UserHeader string

	// UserPointer is a JSON pointer (RFC 6901) to the user, a string in the value of a record of a
	// [Shared] topic.
	UserPointer string

	// Claim names the claim of tokens whose values own the records of a [Shared] topic: the key, the header or the pointer
	// names a value of the claim instead of a user, and the record is for everyone whose token has this value. If it is
	// empty, a record is for one user. A value never stands for the user of the same name, or for the same value of another
	// claim.
	Claim string

	// Encoding says how the topics of a [PerUser] route spell the user in their names.
	Encoding Encoding

	// Partitioner is the partitioner of all producers of a [Shared] topic whose record key is the user.
	// With it, a user's streams read only the partitions that it chooses for the user ([Homes]), and a
	// record in another partition is not delivered. If it is empty, a user's records may be in any
	// partition.
	Partitioner Partitioner

	// Format is one of [format.Kinds] and says how the values of the records are encoded. Clients get the decoded values,
	// and UserPointer points into them. If it is empty, clients get the values as they are.
	Format string

	// Where leaves out the records that do not meet it: no stream gets them. The zero Condition leaves out none.
	Where Condition
}

// validate checks the route by itself; [CheckRoutes] checks routes against each other.
func (r *Route) validate() error {
	n := strings.Count(r.Topic, userPlaceholder)
	bare := strings.Replace(r.Topic, userPlaceholder, "u", 1)
	switch {
	case r.Topic == "":
		return errors.New("a topic needs a name")
	case r.Kind == PerUser && n != 1:
		return fmt.Errorf("a per-user topic has %s in its name once, such as notifications.%[1]s", userPlaceholder)
	case r.Kind == PerUser && bare == "u":
		return fmt.Errorf("%s alone would let users name any topic: give it a fixed part, such as notifications.%[1]s", userPlaceholder)
	case r.Kind != PerUser && n > 0:
		return fmt.Errorf("%s in the name makes a topic per-user, not %s", userPlaceholder, r.Kind)
	}
	if err := r.validateCombination(); err != nil {
		return err
	}
	if err := r.validateValues(); err != nil {
		return err
	}
	return checkTopicName(bare)
}

// validateCombination checks whether the options fit the kind of the topics, and each other.
func (r *Route) validateCombination() error {
	switch {
	case r.Kind != Shared && r.UserHeader != "":
		return fmt.Errorf("user=header:… is for shared topics, not for %s ones", r.Kind)
	case r.Kind != Shared && r.UserPointer != "":
		return fmt.Errorf("user=json:… is for shared topics, not for %s ones", r.Kind)
	case r.Kind != Shared && r.Claim != "":
		return fmt.Errorf("claim=… is for shared topics, not for %s ones", r.Kind)
	case r.Kind != PerUser && r.Encoding != "":
		return fmt.Errorf("encode=… is for topics with %s in their name", userPlaceholder)
	case r.UserHeader != "" && r.UserPointer != "":
		return errors.New("a record's user is in a header or in the value, not in both")
	case r.Partitioner != "" && r.Kind != Shared:
		return fmt.Errorf("partitioner=… is for shared topics, not for %s ones", r.Kind)
	case r.Partitioner != "" && (r.UserHeader != "" || r.UserPointer != ""):
		return errors.New("partitioner=… is for topics whose record key is the user: neither a header nor the value chooses the partition")
	case r.Partitioner != "" && r.Claim != "":
		return errors.New("partitioner=… and claim=… exclude each other: a partitioner says in which partition a user's records are, and these records belong to values of a claim")
	case r.Where.Header != "" && r.Where.Header == r.UserHeader:
		return errors.New("where=… is about the header that holds the user: name another header")
	}
	return nil
}

// validateValues checks the value of each option that has one.
func (r *Route) validateValues() error {
	if r.Where != (Condition{}) {
		if err := r.Where.validateInRoute(); err != nil {
			return err
		}
	}
	if r.Claim != "" {
		if err := checkClaim(r.Claim); err != nil {
			return err
		}
	}
	if r.UserPointer != "" {
		if err := checkPointer(r.UserPointer); err != nil {
			return err
		}
	}
	if r.Encoding != "" {
		if err := new(Encoding).parse(string(r.Encoding)); err != nil {
			return err
		}
	}
	if r.Format != "" {
		if err := checkFormat(r.Format); err != nil {
			return err
		}
	}
	if r.Partitioner != "" {
		if err := new(Partitioner).parse(string(r.Partitioner)); err != nil {
			return err
		}
	}
	return nil
}

// maxClaim is the length of the longest name of a claim, in bytes.
const maxClaim = 256

// grantClaim is the claim of tokens that says what Herald allows. It is an object, so a token with a grant would be refused.
const grantClaim = "herald"

// checkClaim checks the name of a claim. The names that tokens have are the issuer's choice: some are URLs.
func checkClaim(name string) error {
	switch {
	case name == grantClaim:
		return fmt.Errorf("the claim %s is a token's grant and has no values: name another claim", name)
	case !utf8.ValidString(name):
		return fmt.Errorf("claim %q is not UTF-8", name)
	case len(name) > maxClaim:
		return fmt.Errorf("the name of a claim has at most %d bytes, not %d", maxClaim, len(name))
	case strings.ContainsFunc(name, func(c rune) bool { return unicode.IsSpace(c) || !unicode.IsPrint(c) || strings.ContainsRune(",=", c) }):
		return fmt.Errorf("claim %+q: the name of a claim has no space, no comma, no equals sign and no control character; its values are in tokens and records", name)
	}
	return nil
}

// checkTopicName applies Kafka's rules for topic names (org.apache.kafka.common.internals.Topic). It also
// refuses names that begin with two underscores, so that no user gets one of Kafka's internal topics.
func checkTopicName(name string) error {
	switch {
	case name == "" || name == "." || name == "..":
		return fmt.Errorf("%q is not a topic name", name)
	case strings.HasPrefix(name, "__"):
		return fmt.Errorf("%q is a topic of Kafka's own", name)
	}
	for i, c := range name {
		switch {
		case isTopicByte(name[i]):
		case c == utf8.RuneError && !strings.HasPrefix(name[i:], "\uFFFD"):
			return fmt.Errorf("%q is not UTF-8", name)
		case unicode.IsMark(c): // it would show on the quote
			return fmt.Errorf("character %+q cannot be in a topic name (allowed: a-z A-Z 0-9 . _ -)", c)
		default:
			return fmt.Errorf("character %q cannot be in a topic name (allowed: a-z A-Z 0-9 . _ -)", c)
		}
	}
	if len(name) > maxTopicName { // each of these characters is one byte
		return fmt.Errorf("a topic name has at most %d characters, not %d", maxTopicName, len(name))
	}
	return nil
}

func isTopicByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '_' || c == '-'
}

// sharedUser returns the user that a record of a [Shared] route is for, or with [Route.Claim] the value of the claim. It
// is empty if the record names none.
func (r *Route) sharedUser(rec *Record) []byte {
	switch {
	case r.UserPointer != "" && rec.Decode() != nil:
		return nil
	case r.UserPointer != "":
		user, _, _ := userInValue(rec.Value, r.UserPointer)
		return user
	case r.UserHeader != "":
		user, _ := rec.Header(r.UserHeader)
		return user
	default:
		return rec.Key
	}
}

// owner returns the user in the name of a topic of the route, as setOwner takes it; nil unless the route is
// a [PerUser] route.
func (r *Route) owner(topic string) []byte {
	user, ok := r.UserOf(topic)
	if !ok {
		return nil
	}
	return []byte(user)
}

// setOwner sets the record's user or the value of the route's claim, or marks the record as for everyone. user is the owner
// of the record's topic.
func (r *Route) setOwner(rec *Record, user []byte) {
	switch r.Kind {
	case Broadcast:
		rec.Broadcast = true
	case PerUser:
		rec.User = user
	case Shared:
		rec.User, rec.Claim = r.sharedUser(rec), r.Claim
	}
}

// ownersFor returns whose records of the route's topic a replay of the range for user reads: the user, or the range's
// values of the route's claim. A user is never taken for a value, nor a value for a user. Of a broadcast topic it returns
// the empty owner, because [Record.User] is empty there; elsewhere, the records of the empty owner are nobody's.
func (r *Route) ownersFor(user string, at *Range) []string {
	switch {
	case r.Kind == Broadcast:
		return []string{""}
	case r.Claim == "":
		return []string{user}
	default:
		return slices.DeleteFunc(slices.Clone(at.Values), func(value string) bool { return value == "" })
	}
}

// TopicFor returns the topic's name with the user, as the route's encoding spells it, in place of "{user}". Whether
// Kafka allows the name is not checked.
func (r *Route) TopicFor(user string) string {
	return strings.Replace(r.Topic, userPlaceholder, r.Encoding.encode(user), 1)
}

// UserOf returns the user that the topic belongs to, and whether the topic is one of this [PerUser] route:
// its name has the fixed parts of the route's name and a user, as the route's encoding spells it, between them.
func (r *Route) UserOf(topic string) (user string, ok bool) {
	if r.Kind != PerUser {
		return "", false
	}
	prefix, suffix := r.fixedParts()
	if len(topic) <= len(prefix)+len(suffix) || !strings.HasPrefix(topic, prefix) || !strings.HasSuffix(topic, suffix) {
		return "", false
	}
	return r.Encoding.decode(topic[len(prefix) : len(topic)-len(suffix)])
}

// fixedParts returns the parts of the topic's name before and after "{user}".
func (r *Route) fixedParts() (prefix, suffix string) {
	prefix, suffix, _ = strings.Cut(r.Topic, userPlaceholder)
	return prefix, suffix
}
