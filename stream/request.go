package stream

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"herald/consumer"
)

// streamRequest is a client's request for a stream.
type streamRequest struct {
	lastID   string              // the last event id; it takes precedence over since
	since    time.Time           // the time to begin at; zero: now
	earliest bool                // begin with the first record retained
	unseen   bool                // begin where delivery of the user's own topics to any device stopped
	types    []string            // the event types to send; nil: all, empty: none
	topics   []string            // the broadcast topics to send; nil: all, empty: none
	where    consumer.Conditions // the viewer's
	viewer   string              // the viewer's name, if the client asks for the field pos
	shape    shape               // how the client wants events
	beats    bool                // heartbeats are events

	polls  bool          // the stream is a poll, which ends by itself
	wait   time.Duration // how long a poll waits for the first event
	limit  int           // the most records of a poll; 0: no limit
	format answerFormat  // JSON only if it is a poll

	protocol protocol // of the request's connection
}

// ParamLastID is the parameter for clients that cannot set the header Last-Event-ID, which takes precedence. It may
// be empty: a page has no id yet.
const ParamLastID = "lastEventId"

// params are the query parameters of a stream. Each has a function that reads a value into the request.
var params = []struct {
	name string
	read func(r *streamRequest, value string, now time.Time) error
}{
	{"since", (*streamRequest).readSince},
	{"types", (*streamRequest).readTypes},
	{"wait", (*streamRequest).readWait},
	{"limit", (*streamRequest).readLimit},
	{ParamLastID, (*streamRequest).readLastID},
	{"fields", (*streamRequest).readFields},
	{"format", (*streamRequest).readFormat},
	{"heartbeat", (*streamRequest).readHeartbeat},
}

// Params returns the names of the query parameters that [Handler.Events] reads.
func Params() []string {
	names := make([]string, len(params))
	for i := range params {
		names[i] = params[i].name
	}
	return names
}

// maxTypes bounds the event types that a client chooses, because each stream keeps them, and looks through them for
// each of its events.
const maxTypes = 100

// readRequest reads the header Last-Event-ID and the query parameters. An empty parameter counts as absent. The error is
// meant for the client.
func readRequest(h http.Header, query Query, now time.Time) (streamRequest, error) {
	r := streamRequest{lastID: h.Get("Last-Event-ID"), format: readAccept(h.Values("Accept"))}
	r.polls = r.format != eventStream
	for _, given := range query {
		for i := range params {
			if params[i].name != given.Name || given.Value == "" {
				continue
			}
			if err := params[i].read(&r, given.Value, now); err != nil {
				return r, fmt.Errorf("%s: %w", given.Name, err)
			}
		}
	}
	switch {
	case r.limit > 0 && !r.polls:
		return r, errors.New("limit: it has no effect on a stream, which stays open: add wait, such as wait=0")
	case r.format != eventStream:
		return r, r.adaptToJSON()
	}
	return r, nil
}

// adaptToJSON sets what an answer in JSON needs. It refuses parameters that have no effect on such an answer.
func (r *streamRequest) adaptToJSON() error {
	switch {
	case r.shape.has(showEnvelope):
		return errors.New("format: it has no effect, because the header Accept asks for JSON")
	case r.beats:
		return errors.New("heartbeat: it has no effect, because the header Accept asks for JSON, whose heartbeats are white space")
	case r.format == jsonObject && r.limit == 0:
		r.limit = defaultLimit
	}
	r.shape |= showEnvelope // see jsonAnswer
	return nil
}

// readLastID keeps the first id: a polyfill adds another one to the URL of the page.
func (r *streamRequest) readLastID(value string, _ time.Time) error {
	r.lastID = cmp.Or(r.lastID, value)
	return nil
}

func (r *streamRequest) readSince(value string, now time.Time) error {
	switch value {
	case "now":
		return nil
	case "earliest":
		r.earliest = true
		return nil
	case "delivered":
		r.unseen = true
		return nil
	}
	at, err := time.Parse(time.RFC3339, value)
	if err != nil {
		age, err := time.ParseDuration(value)
		if err != nil || age < 0 { // an age has no sign
			return explainSince(value)
		}
		at = now.Add(-age)
	}
	r.since, r.earliest = at, at.IsZero()
	return nil
}

func (r *streamRequest) readTypes(value string, _ time.Time) error {
	if strings.Count(value, ",") >= maxTypes {
		return fmt.Errorf("more than %d", maxTypes)
	}
	r.types = strings.Split(strings.Clone(value), ",") // the stream keeps the types, and with them the rest of the query
	for i, t := range r.types {
		t = strings.TrimSpace(t) // as in the lists of flags: no record's type would equal " b" of "a, b"
		r.types[i] = t
		if err := CheckType(t); err != nil {
			return fmt.Errorf("%q cannot be the type of an event: %w", t, err)
		}
	}
	return nil
}

func (r *streamRequest) readWait(value string, _ time.Time) (err error) {
	r.polls = true
	r.wait, err = time.ParseDuration(value)
	if _, number := strconv.ParseUint(value, 10, 32); err != nil && number == nil {
		return fmt.Errorf("%q has no unit: write wait=%ss for seconds", value, value)
	}
	if err != nil || r.wait < 0 || r.wait > maxWait {
		return fmt.Errorf("%.40q: want a time from 0 to 5m, such as 30s", value)
	}
	return nil
}

func (r *streamRequest) readLimit(value string, _ time.Time) (err error) {
	r.limit, err = strconv.Atoi(value)
	if err != nil || r.limit < 1 || r.limit > maxLimit {
		return fmt.Errorf("%.40q: want a number of records from 1 to %d", value, maxLimit)
	}
	return nil
}

func (r *streamRequest) readHeartbeat(value string, _ time.Time) error {
	if value != "event" {
		return fmt.Errorf("%.40q: want event", value)
	}
	r.beats = true
	return nil
}

// explainSince returns the error for a value that is not a start. It shows the value as it arrived, because a plus sign
// that is not encoded arrives as a space.
func explainSince(value string) error {
	const want = "want now, earliest, delivered, a time like 2026-01-31T08:00:00Z or an age like 90m"
	if strings.Contains(value, " ") {
		return fmt.Errorf("%.40q has a space: encode a plus sign as %%2B; %s", value, want)
	}
	if hours := inHours(value); hours != "" {
		return fmt.Errorf("%.40q: an age has no such unit: write %s", value, hours)
	}
	return fmt.Errorf("%.40q: %s", value, want)
}

// inHours returns an age in days or weeks, such as 7d, in hours, or "" if value is nothing of the kind. Go's durations
// have no days, because not every day has 24 hours.
func inHours(value string) string {
	hours := uint64(24)
	number, days := strings.CutSuffix(value, "d")
	if !days {
		hours = 7 * 24
		number, days = strings.CutSuffix(value, "w")
	}
	count, err := strconv.ParseUint(number, 10, 16)
	if !days || err != nil {
		return ""
	}
	return strconv.FormatUint(count*hours, 10) + "h"
}

// allow restricts the request to the event types and topics that the viewer may see.
func (r *streamRequest) allow(v Viewer) {
	r.topics, r.where = v.Topics, v.Where
	if r.shape.has(showPos) {
		r.viewer = v.name()
	}
	switch {
	case v.Types == nil:
	case r.types == nil:
		r.types = v.Types
	default:
		r.types = slices.DeleteFunc(r.types, func(t string) bool { return !slices.Contains(v.Types, t) })
	}
}

// Labels of opened streams: where they begin.
const (
	startID    = "id"
	startSince = "since"
	startNow   = "now"
)

// startLabel returns the metric's label for where the stream begins.
func (r *streamRequest) startLabel() string {
	switch {
	case r.lastID != "":
		return startID
	case r.earliest || r.unseen || !r.since.IsZero():
		return startSince
	default:
		return startNow
	}
}

// appendOwnID appends the client's own id, for an event before the first checkpoint. Without an id line, WebKit
// would adopt the id of a cut event that the connection before left over.
func (r *streamRequest) appendOwnID(b []byte) []byte {
	if _, err := decodeID(r.lastID); err != nil && r.lastID != "" {
		return b // text that is not an id is not repeated
	}
	return append(b, "id: "+r.lastID+"\n"...)
}
