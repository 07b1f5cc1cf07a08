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

// streamRequest is what a client asks of its stream.
type streamRequest struct {
	lastID   string    // where it was; it goes before since
	since    time.Time // where to begin; zero: now
	earliest bool      // begin with all that is retained
	unseen   bool      // begin where the user's own topics were last delivered to any device
	types    []string  // the event types to send; nil: all, empty: none
	topics   []string  // the broadcast topics to send; nil: all, empty: none
}

// parseRequest reads the header Last-Event-ID and the query parameters lastEventId (for clients that
// cannot set the header, which goes before it), since and types. The error is for the client.
func parseRequest(req *http.Request, now time.Time) (streamRequest, error) {
	query := req.URL.Query()
	r := streamRequest{lastID: req.Header.Get("Last-Event-ID")}
	if r.lastID == "" {
		r.lastID = query.Get("lastEventId")
	}
	for pair := range strings.SplitSeq(req.URL.RawQuery, "&") {
		if _, err := url.ParseQuery(pair); err == nil { // others are dropped by net/url without a word
			continue
		}
		switch {
		case strings.Contains(pair, "lastEventId="):
			r.lastID = cmp.Or(r.lastID, pair) // which is no id
		case strings.HasPrefix(pair, "since="), strings.HasPrefix(pair, "types="):
			return r, fmt.Errorf("%q is no query parameter: percent-encode what is not a letter or a digit", pair)
		}
	}
	switch since := query.Get("since"); since {
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
			return r, errors.New("since: want now, earliest, delivered, a time like 2026-01-31T08:00:00Z or an age like 90m")
		}
		r.since, r.earliest = at, at.IsZero()
	}
	if list := query.Get("types"); list != "" {
		r.types = strings.Split(list, ",")
		for _, t := range r.types {
			if t != TypeMessage && !ValidType(t) {
				return r, fmt.Errorf("types: %q cannot be the type of an event", t)
			}
		}
	}
	return r, nil
}

// allow leaves of what is asked for what the viewer may see.
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

// appendOwnID appends the id that the client came with, for an event before the first checkpoint: or a
// client would take the id of what a broken connection left of an event.
func (r *streamRequest) appendOwnID(b []byte) []byte {
	if _, err := decodeID(r.lastID); err != nil && r.lastID != "" {
		return b // whatever it is, it is not repeated
	}
	return append(b, "id: "+r.lastID+"\n"...)
}
