package stream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"herald/consumer"
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
func parseRequest(c echo.Context, now time.Time) (streamRequest, error) {
	r := streamRequest{lastID: c.Request().Header.Get("Last-Event-ID")}
	if r.lastID == "" {
		r.lastID = c.QueryParam("lastEventId")
	}
	for pair := range strings.SplitSeq(c.Request().URL.RawQuery, "&") {
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
	switch since := c.QueryParam("since"); since {
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
	if list := c.QueryParam("types"); list != "" {
		r.types = strings.Split(list, ",")
		for _, t := range r.types {
			if t != TypeMessage && !ValidType(t) {
				return r, fmt.Errorf("types: %q cannot be the type of an event", t)
			}
		}
	}
	return r, nil
}

// start brings a new stream to now and goes on from there.
func (f *clientStream) start(r streamRequest) {
	err := f.flush() // the client sees at once that it is there
	if err == nil {
		err = f.wait(func(ctx context.Context) error {
			if err := f.join(ctx, r.topics); err != nil {
				return err
			}
			return f.begin(ctx, r)
		})
	}
	if err != nil {
		if _, told := errors.AsType[EndError](err); told && !f.begun {
			b := f.bytes()
			b.b = r.appendOwnID(b.b)
		}
		f.close(err)
		return
	}
	f.slow()
}

// join waits until the user's topics are being read; the client sees signs of life meanwhile.
func (f *clientStream) join(ctx context.Context, broadcasts []string) error {
	asking, alive := f.keepAlive(ctx)
	sources, err := f.kafka.Join(asking, f.sub.user)
	failed := alive()
	switch {
	case err != nil && failed != nil:
		return failed
	case err != nil && ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return err
	}
	f.sub.topics = slices.DeleteFunc(sources, func(s consumer.UserTopic) bool {
		return s.Broadcast && broadcasts != nil && !slices.Contains(broadcasts, s.Topic)
	})
	f.hub.addSubscription(f.sub)
	f.joined = true
	return failed
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

// from says where the stream is to begin as the metric's label has it.
func (r *streamRequest) from() string {
	switch {
	case r.lastID != "":
		return "id"
	case r.earliest || r.unseen || !r.since.IsZero():
		return "since"
	default:
		return "now"
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

// begin sets the cursor to where the client wants to begin and writes the first checkpoint. What an
// id has to do with the log is found out by catchUp.
func (f *clientStream) begin(ctx context.Context, r streamRequest) error {
	f.at, f.types = f.hub.startCursor(f.sub.topics, f.sub.user), r.types
	switch {
	case r.lastID != "":
		f.resume(r.lastID)
	case r.earliest || !r.since.IsZero():
		if err := f.retry(ctx, func(ctx context.Context) error { return f.beginAt(ctx, r.since) }); err != nil {
			return err
		}
	case r.unseen:
		if err := f.retry(ctx, f.beginUnseen); err != nil {
			return err
		}
	}
	f.checkpoint()
	f.begun = true
	if f.longIDs != nil {
		f.longIDs.checkCursor(f.at)
	}
	return f.flush()
}

// strangePartitions is how many partitions an id may name beyond twice those that are known: another
// replica may know of more of them.
const strangePartitions = 100

// resume sets the cursor to what the id says. Where it says nothing the stream starts now, and a gap tells
// that: the id may have been cut short, or come from a replica that has not the topic.
func (f *clientStream) resume(lastID string) {
	sources, err := decodeID(lastID)
	var unknown []gapData
	for i := range f.at {
		at := &f.at[i]
		s, ok := sources[at.nameTag]
		if !ok || len(s.positions) > 2*len(at.positions)+strangePartitions { // each event would carry them
			unknown = append(unknown, gapData{Source: at.name, Reason: consumer.GapUnknownID})
			continue
		}
		at.positions, at.since = s.positions, s.since
		for j := range at.positions {
			at.positions[j].fresh = true
		}
		if s.incarnation != at.incarnation.tag {
			at.incarnation = incarnation{tag: s.incarnation}
		}
		if homes := f.sub.topic(at.name).Homes; homes != nil {
			at.addHomes(f.sub.user, homes)
		}
	}
	if err != nil || len(unknown) > 0 && len(unknown) == len(f.at) {
		unknown = []gapData{{Reason: consumer.GapUnknownID}}
	}
	for _, g := range unknown { // when all positions are set, or the gaps' ids would lack some
		f.gap(g)
	}
}

// beginAt sets the cursor to the first records that were written at the time or later; the zero time
// is the start of the log. Partitions for which Kafka has no answer are left to limit or, if the client comes
// back before there is one, to the stream of then: ids say so.
func (f *clientStream) beginAt(ctx context.Context, at time.Time) error {
	var partitions []consumer.Partition
	for i := range f.at {
		for _, p := range f.at[i].positions {
			partitions = append(partitions, consumer.Partition{Topic: f.at[i].name, ID: p.partition})
		}
	}
	first, err := f.kafka.Since(ctx, partitions, at)
	if err != nil && len(first) == 0 {
		return err
	}
	for i := range f.at {
		s := &f.at[i]
		for _, p := range s.positions {
			next, told := first[consumer.Partition{Topic: s.name, ID: p.partition}]
			if told {
				s.beginPartition(p.partition, min(next, p.next))
			} else {
				s.seekPartition(p.partition, p.next, max(0, at.UnixMilli())) // the zero time is before 1970
			}
		}
	}
	return nil
}

// beginUnseen sets the cursor to where the user's own topics were last delivered; the others begin
// now.
func (f *clientStream) beginUnseen(ctx context.Context) error {
	delivered, err := f.kafka.DeliveredTo(ctx, f.sub.user)
	if err != nil {
		return err
	}
	for p, next := range delivered {
		if s := f.at.topic(p.Topic); s != nil {
			s.beginPartition(p.ID, min(next, s.nextOffset(p.ID)))
		}
	}
	return nil
}

// retry calls ask until it returns no error, with heartbeats. The error is ctx's cause or that of a
// write.
func (f *clientStream) retry(ctx context.Context, ask func(context.Context) error) error {
	asking, alive := f.keepAlive(ctx)
	for ask(asking) != nil && asking.Err() == nil {
		select {
		case <-time.After(retryAfter):
		case <-asking.Done():
		}
	}
	if err := alive(); err != nil {
		return err
	}
	return context.Cause(ctx)
}
