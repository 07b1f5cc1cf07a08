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

// start begins a new stream where the request says, brings it to the present and serves it.
func (s *clientStream) start(r streamRequest) {
	err := s.writer.flush() // the client sees at once that the stream is open
	if err == nil {
		err = s.waitFor(func(ctx context.Context) error {
			if err := s.joinTopics(ctx, r.topics); err != nil {
				return err
			}
			return s.begin(ctx, r)
		})
	}
	if err != nil {
		if _, ended := errors.AsType[EndError](err); ended && !s.begun {
			b := s.writer.buffer()
			b.b = r.appendOwnID(b.b)
		}
		s.close(err)
		return
	}
	s.serveSlow()
}

// joinTopics waits until Kafka's topics of the user are being read, and registers the stream with the hub.
func (s *clientStream) joinTopics(ctx context.Context, broadcasts []string) error {
	var topics []consumer.UserTopic
	joined := false
	err := s.writer.withHeartbeats(ctx, func(ctx context.Context) (err error) {
		topics, err = s.env.kafka.Join(ctx, s.sub.user)
		joined = err == nil
		if err != nil && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	})
	if !joined {
		return err
	}
	s.sub.topics = slices.DeleteFunc(topics, func(t consumer.UserTopic) bool {
		return t.Broadcast && broadcasts != nil && !slices.Contains(broadcasts, t.Topic)
	})
	s.env.hub.addSubscription(s.sub)
	s.joined = true
	return err
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

// startLabel returns the metric's label for where the stream begins.
func (r *streamRequest) startLabel() string {
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

// begin sets the cursor to where the client wants to begin and writes the first checkpoint. The catch-up
// compares the cursor with the logs later.
func (s *clientStream) begin(ctx context.Context, r streamRequest) error {
	w := &s.writer
	w.cursor, w.types = s.env.hub.startCursor(s.sub.topics, s.sub.user), r.types
	switch {
	case r.lastID != "":
		s.resume(r.lastID)
	case r.earliest || !r.since.IsZero():
		if err := s.retryUntilAnswered(ctx, func(ctx context.Context) error { return s.beginSince(ctx, r.since) }); err != nil {
			return err
		}
	case r.unseen:
		if err := s.retryUntilAnswered(ctx, s.beginUnseen); err != nil {
			return err
		}
	}
	w.appendCheckpoint()
	s.begun = true
	if s.env.longIDs != nil {
		s.env.longIDs.checkCursor(w.cursor)
	}
	return w.flush()
}

// strangePartitions is how many partitions an id may name beyond twice the known ones: another replica may
// know more partitions.
const strangePartitions = 100

// resume sets the cursor to what the id says. A topic that the id does not name starts now, and a gap reports
// it: the id may have been cut short, or come from a replica that has not got the topic.
func (s *clientStream) resume(lastID string) {
	saved, err := decodeID(lastID)
	w := &s.writer
	var unknown []gapData
	for i := range w.cursor {
		topic := &w.cursor[i]
		from, ok := saved[topic.nameTag]
		if !ok || len(from.positions) > 2*len(topic.positions)+strangePartitions { // each event would carry them
			unknown = append(unknown, gapData{Source: topic.name, Reason: consumer.GapUnknownID})
			continue
		}
		topic.positions, topic.since = from.positions, from.since
		for j := range topic.positions {
			topic.positions[j].fresh = true
		}
		if from.incarnation != topic.incarnation.tag {
			topic.incarnation = incarnation{tag: from.incarnation}
		}
		if homes := s.sub.topic(topic.name).Homes; homes != nil {
			topic.addHomes(s.sub.user, homes)
		}
	}
	if err != nil || len(unknown) > 0 && len(unknown) == len(w.cursor) {
		unknown = []gapData{{Reason: consumer.GapUnknownID}}
	}
	for _, g := range unknown { // once all positions are set: otherwise the gaps' ids would lack some
		w.appendGap(g)
	}
}

// beginSince sets the cursor to the first records that were written at the time or later. The zero time is
// the start of the log. Partitions for which Kafka has no answer stay sought: [catchUp.applyLimits] asks
// again, or, if the client comes back before there is an answer, the client's next stream. Ids say so.
func (s *clientStream) beginSince(ctx context.Context, since time.Time) error {
	var partitions []consumer.Partition
	cursor := s.writer.cursor
	for i := range cursor {
		for _, p := range cursor[i].positions {
			partitions = append(partitions, consumer.Partition{Topic: cursor[i].name, ID: p.partition})
		}
	}
	first, err := s.env.kafka.Since(ctx, partitions, since)
	if err != nil && len(first) == 0 {
		return err
	}
	for i := range cursor {
		topic := &cursor[i]
		for _, p := range topic.positions {
			next, known := first[consumer.Partition{Topic: topic.name, ID: p.partition}]
			if known {
				topic.beginPartition(p.partition, min(next, p.next))
			} else {
				topic.seekPartition(p.partition, p.next, max(0, since.UnixMilli())) // the zero time is before 1970
			}
		}
	}
	return nil
}

// beginUnseen sets the cursor to where the user's own topics were last delivered. The other topics begin
// now.
func (s *clientStream) beginUnseen(ctx context.Context) error {
	delivered, err := s.env.kafka.DeliveredTo(ctx, s.sub.user)
	if err != nil {
		return err
	}
	for p, next := range delivered {
		if topic := s.writer.cursor.topic(p.Topic); topic != nil {
			topic.beginPartition(p.ID, min(next, topic.nextOffset(p.ID)))
		}
	}
	return nil
}

// retryUntilAnswered calls ask until it returns no error, with heartbeats. The error is ctx's cause, or the
// error of a heartbeat's write.
func (s *clientStream) retryUntilAnswered(ctx context.Context, ask func(context.Context) error) error {
	return s.writer.withHeartbeats(ctx, func(ctx context.Context) error {
		for ask(ctx) != nil && ctx.Err() == nil {
			select {
			case <-time.After(retryAfter):
			case <-ctx.Done():
			}
		}
		return context.Cause(ctx)
	})
}
