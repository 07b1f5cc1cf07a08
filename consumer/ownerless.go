package consumer

import (
	"encoding/binary"
	"log/slog"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
)

// Why a record of a shared topic belongs to no user, as values of the metric's label reason. Such a record is
// ownerless: no stream can ever get it.
const (
	ownerlessNoKey     = "no-key"            // the key is null
	ownerlessNoHeader  = "no-header"         // the route's header is missing or null
	ownerlessNotJSON   = "not-json"          // the value is not one JSON text whose objects have each name once
	ownerlessNoField   = "no-field"          // the route's JSON pointer points to nothing
	ownerlessNotString = "not-string"        // the route's JSON pointer points to something other than a string
	ownerlessEmpty     = "empty"             // the user's name is empty
	ownerlessTooLong   = "too-long"          // the user's name is longer than maxUser
	ownerlessNotUTF8   = "not-utf8"          // the user's name is not UTF-8
	ownerlessControl   = "control-character" // the user's name contains a control character
	ownerlessNoTopic   = "no-topic"          // the user cannot have a topic of a per-user route, and so no stream (ErrUserTopic)
)

// maxUser is how long a user's name may be, in bytes. No token and no request can name a user with a longer name.
const maxUser = 256

// ownerlessPeriod is how long the log is silent about a topic's ownerless records after a line.
const ownerlessPeriod = time.Minute

// ownerlessRecords counts the ownerless records of one shared topic, and logs one of them in each
// [ownerlessPeriod]. It is safe for concurrent use.
type ownerlessRecords struct {
	route  *Route
	routes routes
	names  *ownNames                     // nil: users have no topics of their own
	counts map[string]prometheus.Counter // by reason
	log    *slog.Logger
	total  atomic.Int64
	logged atomic.Int64 // see mayLog
}

// newOwnerlessRecords returns the counts for each topic of the routes that may have ownerless records. Topics of
// the other kinds have none: a user's own topic is read only for a user with a valid name, and the records of a
// broadcast topic are for everyone.
func newOwnerlessRecords(rs routes, m *metrics, log *slog.Logger) map[string]*ownerlessRecords {
	topics := make(map[string]*ownerlessRecords)
	names := newOwnNames(rs)
	for _, route := range rs.static() {
		if route.Kind != Shared {
			continue
		}
		o := &ownerlessRecords{route: route, routes: rs, names: names, counts: make(map[string]prometheus.Counter), log: log}
		for _, reason := range o.reasons() {
			o.counts[reason] = m.ownerless.WithLabelValues(route.Topic, reason) // 0 from the start, because alerts need a first value
		}
		topics[route.Topic] = o
	}
	return topics
}

// reasons returns the reasons that a record of the topic can have.
func (o *ownerlessRecords) reasons() []string {
	list := []string{ownerlessEmpty, ownerlessTooLong, ownerlessNotUTF8, ownerlessControl}
	if o.names != nil {
		list = append(list, ownerlessNoTopic)
	}
	switch {
	case o.route.UserPointer != "":
		return append(list, ownerlessNotJSON, ownerlessNoField, ownerlessNotString)
	case o.route.UserHeader != "":
		return append(list, ownerlessNoHeader)
	default:
		return append(list, ownerlessNoKey)
	}
}

// mayCount reports whether count has to look at a record with this user. It costs the records of most users little,
// because live reading calls it for each record of a shared topic.
func (o *ownerlessRecords) mayCount(user []byte) bool {
	if o.names != nil {
		return !o.names.isPlain(user)
	}
	return !isPlainName(user)
}

// count counts a record, unless it has an owner or is a tombstone, which is not a notification.
func (o *ownerlessRecords) count(p Partition, rec *Record) {
	if rec.Value == nil {
		return
	}
	reason := o.findReason(rec)
	if reason == "" {
		return
	}
	o.counts[reason].Inc()
	total := o.total.Add(1)
	if mayLog(&o.logged, ownerlessPeriod) {
		o.log.Warn("record belongs to no user and is left out; correct its producer, or user= in the topic's route",
			"topic", p.Topic, "partition", p.ID, "offset", rec.Offset, "reason", reason, "records", total)
	}
}

// findReason returns why the record belongs to no user; "" if it belongs to one.
func (o *ownerlessRecords) findReason(rec *Record) string {
	user := rec.User
	switch {
	case len(user) > 0:
	case o.route.UserPointer != "":
		_, missing := userInValue(rec.Value, o.route.UserPointer)
		return missing
	case user != nil:
	case o.route.UserHeader != "":
		return ownerlessNoHeader
	default:
		return ownerlessNoKey
	}
	if fault := nameFault(user); fault != "" {
		return fault
	}
	if _, err := o.routes.userTopics(string(user)); err != nil {
		return ownerlessNoTopic
	}
	return ""
}

// isPlainName reports whether the name is valid and of printable ASCII. Almost all names are, so that live reading
// calls nameFault for few records. isPlainName looks at eight bytes at a time, because live reading calls it for each
// record of a shared topic (BenchmarkMayCount).
func isPlainName(name []byte) bool {
	if len(name) == 0 || len(name) > maxUser {
		return false
	}
	if len(name) < 8 {
		for _, c := range name {
			if c < ' ' || c > '~' {
				return false
			}
		}
		return true
	}
	last := name[len(name)-8:]
	for ; len(name) > 8; name = name[8:] {
		if !isPlainWord(binary.LittleEndian.Uint64(name)) {
			return false
		}
	}
	return isPlainWord(binary.LittleEndian.Uint64(last))
}

// isPlainWord reports whether eight bytes are of printable ASCII. The highest bit of a byte is set, if the byte is
// above '~', in the byte itself or in the byte plus 1; if it is below ' ', in the byte minus ' '. A carry or a borrow
// comes only from such a byte.
func isPlainWord(w uint64) bool {
	const ones = 0x0101010101010101
	return (w|(w+ones)|(w-' '*ones))&(0x80*ones) == 0
}

// nameFault returns the reason for which no user can have the name; "" if a user can. The rule is auth.CheckUser's.
func nameFault(name []byte) string {
	switch {
	case len(name) == 0:
		return ownerlessEmpty
	case len(name) > maxUser:
		return ownerlessTooLong
	case !utf8.Valid(name):
		return ownerlessNotUTF8
	}
	for _, c := range string(name) {
		if unicode.IsControl(c) {
			return ownerlessControl
		}
	}
	return ""
}

// ownNames knows names that users with topics of their own can have.
type ownNames struct {
	longest int             // in bytes
	taken   map[string]bool // names whose topics other routes read
}

// newOwnNames returns nil if no route gives users topics of their own.
func newOwnNames(rs routes) *ownNames {
	var names *ownNames
	for _, route := range rs {
		if route.Kind != PerUser {
			continue
		}
		if names == nil {
			names = &ownNames{longest: maxTopicName, taken: make(map[string]bool)}
		}
		prefix, suffix := route.fixedParts()
		names.longest = min(names.longest, maxTopicName-len(prefix)-len(suffix))
		for _, other := range rs.static() {
			if user, ok := route.UserOf(other.Topic); ok {
				names.taken[user] = true
			}
		}
	}
	return names
}

// topicBytes is isTopicByte as a table, which takes a third of its time.
var topicBytes = func() (is [256]bool) {
	for c := range is {
		is[c] = isTopicByte(byte(c))
	}
	return is
}()

// isPlain reports whether the name is valid and begins with a letter or a digit. Almost all names do. The others may
// make a name that Kafka does not allow, such as "..", or one of Kafka's own topics.
func (n *ownNames) isPlain(name []byte) bool {
	if len(name) == 0 || len(name) > n.longest || name[0] < '0' || name[0] == '_' {
		return false
	}
	for _, c := range name {
		if !topicBytes[c] {
			return false
		}
	}
	return len(n.taken) == 0 || !n.taken[string(name)]
}
