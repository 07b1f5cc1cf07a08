package stream

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// streamRequest is a client's request for a stream.
type streamRequest struct {
	lastID   string    // the last event id; it takes precedence over since
	since    time.Time // the time to begin at; zero: now
	earliest bool      // begin with the first record retained
	unseen   bool      // begin after the records of the user's own topics that any device was delivered
	types    []string  // the event types to send; nil: all, empty: none
	topics   []string  // the broadcast topics to send; nil: all, empty: none
}

// The query parameters of a stream, which servers read beside the user's token.
const (
	ParamSince  = "since"
	ParamTypes  = "types"
	ParamLastID = "lastEventId" // for clients that cannot set the header Last-Event-ID, which takes precedence
)

// maxTypes bounds the event types that a client chooses, because each stream keeps them, and looks through them for
// each of its events.
const maxTypes = 100

// parseRequest reads the header Last-Event-ID and the query parameters. The error is meant for the client.
func parseRequest(req *http.Request, now time.Time) (streamRequest, error) {
	query := req.URL.Query()
	r := streamRequest{lastID: req.Header.Get("Last-Event-ID")}
	if r.lastID == "" {
		r.lastID = cmp.Or(query[ParamLastID]...) // a page may send an empty one, and a polyfill adds another
	}
	for pair := range strings.SplitSeq(req.URL.RawQuery, "&") {
		if _, err := url.ParseQuery(pair); err == nil { // net/url silently drops other pairs
			continue
		}
		switch {
		case strings.Contains(pair, ParamLastID+"="):
			r.lastID = cmp.Or(r.lastID, pair) // this text is not an id, so a gap reports it
		case strings.HasPrefix(pair, ParamSince+"="), strings.HasPrefix(pair, ParamTypes+"="):
			return r, fmt.Errorf("%q is not a query parameter: percent-encode what is not a letter or a digit", pair)
		}
	}
	switch since := query.Get(ParamSince); since {
	case "", "now":
	case "earliest":
		r.earliest = true
	case "delivered":
		r.unseen = true
	default:
		at, err := time.Parse(time.RFC3339, since)
		if err != nil {
			var age time.Duration
			if age, err = time.ParseDuration(since); err == nil && age < 0 {
				err = errors.New("an age has no sign")
			}
			at = now.Add(-age)
		}
		if err != nil {
			return r, explainSince(since)
		}
		r.since, r.earliest = at, at.IsZero()
	}
	if list := query.Get(ParamTypes); list != "" {
		if strings.Count(list, ",") >= maxTypes {
			return r, fmt.Errorf("types: more than %d", maxTypes)
		}
		r.types = strings.Split(strings.Clone(list), ",") // the stream keeps the types, and with them the rest of the query
		for _, t := range r.types {
			if err := CheckType(t); err != nil {
				return r, fmt.Errorf("types: %q cannot be the type of an event: %w", t, err)
			}
		}
	}
	return r, nil
}

// explainSince returns the error for a value that is not a start. It shows the value as it arrived, because a plus sign
// that is not encoded arrives as a space.
func explainSince(value string) error {
	const want = "want now, earliest, delivered, a time like 2026-01-31T08:00:00Z or an age like 90m"
	if strings.Contains(value, " ") {
		return fmt.Errorf("since: %.40q has a space: encode a plus sign as %%2B; %s", value, want)
	}
	return fmt.Errorf("since: %.40q: %s", value, want)
}

// allow restricts the request to the event types and topics that the viewer may see.
func (r *streamRequest) allow(v Viewer) {
	r.topics = v.Topics
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
