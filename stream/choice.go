package stream

import (
	"slices"

	"herald/consumer"
)

// choice is a part of the user's records: the records that the client asks for and that the viewer may see. Nil is all
// of them, as of most streams.
type choice struct {
	types []string            // event types; nil: all, empty: none
	where consumer.Conditions // on the records' headers
}

// newChoice returns nil if a stream of the request gets all of the user's records.
func newChoice(r *streamRequest) *choice {
	if r.types == nil && r.where == nil {
		return nil
	}
	return &choice{r.types, r.where}
}

// hasType reports whether events of the type are chosen.
func (c *choice) hasType(eventType string) bool {
	return c == nil || c.types == nil || eventType == typeUnknown || slices.Contains(c.types, eventType)
}

// meets reports whether the record's headers meet the conditions.
func (c *choice) meets(r *consumer.Record) bool {
	return c == nil || c.where.AreMet(&r.Record)
}

// choose sets which records the stream sends. The hub must not have the subscription yet.
func (s *clientStream) choose(c *choice) {
	s.writer.choice = c
	s.sub.conditional = c != nil && c.where != nil
}
