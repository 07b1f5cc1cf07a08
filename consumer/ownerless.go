package consumer

import (
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Why a record of a shared topic belongs to no user, as values of the metric's label reason. Such a record is
// ownerless: no stream can ever get it.
const (
	ownerlessNoKey       = "no-key"            // the key is null
	ownerlessNoHeader    = "no-header"         // the route's header is missing or null
	ownerlessNotJSON     = "not-json"          // the value is not one JSON text whose objects have each name once
	ownerlessNoField     = "no-field"          // the route's JSON pointer points to nothing
	ownerlessWrongType   = "wrong-type"        // the route's JSON pointer points to something other than a string or an integer
	ownerlessEmpty       = "empty"             // the user's name is empty
	ownerlessTooLong     = "too-long"          // the user's name is longer than maxUser
	ownerlessNotUTF8     = "not-utf8"          // the user's name is not UTF-8
	ownerlessControl     = "control-character" // the user's name contains a control character
	ownerlessUndecodable = "undecodable"       // the route's format cannot decode the value, which names the user
	ownerlessNoTopic     = "no-topic"          // the user cannot have a topic of a per-user route, and so no stream (ErrUserTopic)
)

// ownerlessPeriod is how long the log is silent about a topic's ownerless records after a line.
const ownerlessPeriod = time.Minute

// ownerlessRecords counts the ownerless records of one shared topic, and logs one of them in each
// [ownerlessPeriod]. It is safe for concurrent use.
type ownerlessRecords struct {
	route  *Route
	routes routes
	names  *ownNames                     // nil: the owners have no topics of their own
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
		o := &ownerlessRecords{route: route, routes: rs, counts: make(map[string]prometheus.Counter), log: log}
		if route.Claim == "" { // a value of a claim needs no topic of its own
			o.names = names
		}
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
	case o.route.UserPointer != "" && o.route.Format != "":
		return append(list, ownerlessNotJSON, ownerlessNoField, ownerlessWrongType, ownerlessUndecodable)
	case o.route.UserPointer != "":
		return append(list, ownerlessNotJSON, ownerlessNoField, ownerlessWrongType)
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
	reason, found := o.findReason(rec)
	if reason == "" {
		return
	}
	o.counts[reason].Inc()
	total := o.total.Add(1)
	if mayLog(&o.logged, ownerlessPeriod) {
		facts := []any{"topic", p.Topic, "partition", p.ID, "offset", rec.Offset, "reason", reason}
		if found != "" {
			facts = append(facts, "found", found)
		}
		o.log.Warn("record belongs to no user and is left out; correct its producer, or user= in the topic's route", append(facts, "records", total)...)
	}
}

// findReason returns why the record belongs to no user; "" if it belongs to one. With [ownerlessWrongType], found is the
// type of JSON that is there.
func (o *ownerlessRecords) findReason(rec *Record) (reason, found string) {
	user := rec.User
	switch {
	case len(user) > 0:
	case o.route.UserPointer != "" && rec.Decode() != nil:
		return ownerlessUndecodable, ""
	case o.route.UserPointer != "":
		_, missing, found := userInValue(rec.Value, o.route.UserPointer)
		return missing, found
	case user != nil:
	case o.route.UserHeader != "":
		return ownerlessNoHeader, ""
	default:
		return ownerlessNoKey, ""
	}
	if fault := nameFault(user); fault != "" {
		return fault, ""
	}
	if o.names == nil {
		return "", ""
	}
	if _, err := o.routes.userTopics(string(user)); err != nil {
		return ownerlessNoTopic, ""
	}
	return "", ""
}
