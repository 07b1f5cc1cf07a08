package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"herald/consumer"
)

// request is what a client asks of its stream.
type request struct {
	lastID   string    // where it was; it goes before since
	since    time.Time // where to begin; zero: now
	earliest bool      // begin with all that is retained
	unseen   bool      // begin where the user's own topics were last delivered to any device
	types    []string  // the event types to send; nil: all, empty: none
	topics   []string  // the broadcast topics to send; nil: all, empty: none
}

// parseRequest reads the header Last-Event-ID and the query parameters lastEventId (for clients that
// cannot set the header, which goes before it), since and types. The error is for the client.
func parseRequest(c echo.Context, now time.Time) (request, error) {
	r := request{lastID: c.Request().Header.Get("Last-Event-ID")}
	if r.lastID == "" {
		r.lastID = c.QueryParam("lastEventId")
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
			if t != typeMessage && !ValidType(t) {
				return r, fmt.Errorf("types: %q cannot be the type of an event", t)
			}
		}
	}
	return r, nil
}

// start brings a new stream to now and goes on from there.
func (f *feed) start(r request) {
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
func (f *feed) join(ctx context.Context, broadcasts []string) error {
	asking, alive := f.keepAlive(ctx)
	sources, err := f.log.Join(asking, f.sub.user)
	failed := alive()
	switch {
	case err != nil && failed != nil:
		return failed
	case err != nil && ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return err
	}
	f.sub.sources = slices.DeleteFunc(sources, func(s consumer.Source) bool {
		return s.Broadcast && broadcasts != nil && !slices.Contains(broadcasts, s.Topic)
	})
	f.hub.add(f.sub)
	f.joined = true
	return failed
}

// allow leaves of what is asked for what the viewer may see.
func (r *request) allow(v Viewer) {
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
func (r *request) from() string {
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
func (r *request) appendOwnID(b []byte) []byte {
	if _, err := decodeID(r.lastID); err != nil && r.lastID != "" {
		return b // whatever it is, it is not repeated
	}
	return append(b, "id: "+r.lastID+"\n"...)
}

// begin sets the cursor to where the client wants to begin and writes the first checkpoint. What an
// id has to do with the log is found out by catchUp.
func (f *feed) begin(ctx context.Context, r request) error {
	f.at, f.types = f.hub.start(f.sub.sources, f.sub.user), r.types
	switch {
	case r.lastID != "":
		f.resume(r.lastID)
	case r.earliest || !r.since.IsZero():
		err := f.retry(ctx, func(ctx context.Context) error { return f.beginAt(ctx, r.since) })
		if err != nil {
			return err
		}
	case r.unseen:
		if err := f.retry(ctx, f.beginUnseen); err != nil {
			return err
		}
	}
	f.checkpoint()
	f.begun = true
	if f.limits != (Limits{}) {
		if err := f.retry(ctx, f.limit); err != nil {
			return err
		}
	}
	return f.flush()
}

// strangePartitions is how many partitions an id may name beyond twice those that are known: another
// replica may know of more of them.
const strangePartitions = 100

// resume sets the cursor to what the id says.
func (f *feed) resume(lastID string) {
	sources, err := decodeID(lastID)
	if err != nil {
		f.gap(gapData{Reason: consumer.GapUnknownID})
	}
	for i := range f.at {
		s, ok := sources[f.at[i].tag]
		if !ok {
			continue // a topic the client had no promise of: it starts now
		}
		if len(s.positions) > 2*len(f.at[i].positions)+strangePartitions { // each event would carry them
			f.gap(gapData{Source: f.at[i].topic, Reason: consumer.GapUnknownID})
			continue
		}
		f.at[i].positions = s.positions
		if s.incarnation != f.at[i].incarnation.tag {
			f.at[i].incarnation = incarnation{tag: s.incarnation}
		}
		if homes := f.sub.source(f.at[i].topic).Homes; homes != nil {
			f.at[i].addHomes(f.sub.user, homes)
		}
	}
}

// beginAt sets the cursor to the first records that were written at the time or later; the zero time
// is the start of the log.
func (f *feed) beginAt(ctx context.Context, at time.Time) error {
	first, err := f.log.Since(ctx, f.sub.sources, at)
	if err != nil {
		return err
	}
	for p, next := range first {
		if s := f.at.source(p.Topic); s.takes(p.ID) {
			s.set(p.ID, min(next, s.next(p.ID)))
		}
	}
	return nil
}

// beginUnseen sets the cursor to where the user's own topics were last delivered; the others begin
// now.
func (f *feed) beginUnseen(ctx context.Context) error {
	delivered, err := f.log.DeliveredTo(ctx, f.sub.user)
	if err != nil {
		return err
	}
	for p, next := range delivered {
		if s := f.at.source(p.Topic); s != nil {
			s.set(p.ID, min(next, s.next(p.ID)))
		}
	}
	return nil
}

// Limits bound what a client that comes back is sent; what is older is told as a gap. Zero values
// are no limits.
type Limits struct {
	Age     time.Duration // of records
	Records int64         // offsets of a partition, whoever they are for
}

// limit applies the limits to a cursor that has just been set.
func (f *feed) limit(ctx context.Context) error {
	var young map[consumer.Partition]int64
	if f.limits.Age > 0 {
		var err error
		if young, err = f.log.Since(ctx, f.sub.sources, time.Now().Add(-f.limits.Age)); err != nil {
			return err
		}
	}
	now := f.hub.seam(f.sub.sources)
	for i := range now {
		at := &f.at[i]
		if at.incarnation.tag != now[i].incarnation.tag {
			continue // catchUp tells what became of it
		}
		for _, p := range now[i].positions {
			to := young[consumer.Partition{Topic: at.topic, ID: p.partition}]
			if f.limits.Records > 0 {
				to = max(to, p.next-f.limits.Records)
			}
			if from := at.next(p.partition); from < min(to, p.next) && at.takes(p.partition) {
				at.set(p.partition, min(to, p.next))
				f.gap(gapData{at.topic, &gapRange{p.partition, from, min(to, p.next)}, consumer.GapReplayLimit})
			}
		}
	}
	return nil
}

// retry calls ask until it returns no error, with heartbeats. The error is ctx's cause or that of a
// write.
func (f *feed) retry(ctx context.Context, ask func(context.Context) error) error {
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
