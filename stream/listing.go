package stream

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
)

// Filter chooses the streams of a listing. Zero values choose all streams.
type Filter struct {
	ID      int64        // one stream
	User    string       // the streams of the user
	Network netip.Prefix // the streams of clients with an address in the network
	State   State        // lists only streams in the state; others count nevertheless
	Limit   int          // the most streams to list; 0: no limit
}

// Listing is what [Handler.List] returns, and the answer of the admin listener.
type Listing struct {
	Streams int            `json:"streams"` // that the filter chooses, whatever their state
	States  map[State]int  `json:"states"`  // of these streams
	Listed  []ListedStream `json:"listed"`  // the oldest first
}

// ListedStream is one open stream, or a poll.
type ListedStream struct {
	ID       int64     `json:"id"`
	User     string    `json:"user"`
	Address  string    `json:"address"` // of an IPv6 client the /64 network, which counts as one client
	Opened   time.Time `json:"opened"`
	Protocol string    `json:"protocol"` // such as HTTP/2+TLS
	Kind     string    `json:"kind"`     // stream or poll
	State    State     `json:"state"`

	// Position is the event id from which a client would continue that has everything that the stream has considered;
	// nil while the stream does not know where it begins.
	Position *string `json:"position"`

	// Behind is the number of records, of all users, between the position and the ends of the logs that the consumer knows;
	// nil if one of them is not known.
	Behind *int64 `json:"behind"`

	QueuedBytes   int        `json:"queued_bytes"`   // in Herald's memory, without the socket's buffer
	QueuedRecords int        `json:"queued_records"` // without the event that the client has taken a part of
	LastWrite     *time.Time `json:"last_write"`     // when the client last took bytes, heartbeats included; nil: never
	Events        uint32     `json:"events"`         // the records written
	Bytes         int64      `json:"bytes"`          // of events that the client has taken
}

// List lists the open streams. It holds no lock while it looks at more than one stream, so that records, new streams and
// closed ones do not wait for it. Streams that open or close meanwhile may be missing.
func (h *Handler) List(f Filter, logs Logs) Listing {
	known, at := newKnownLogs(logs), new(cursor)
	listing := Listing{States: make(map[State]int, len(States)), Listed: []ListedStream{}}
	for _, state := range States {
		listing.States[state] = 0
	}
	var chosen []*clientStream
	h.roster.visitUnlocked(f.User, func(s *clientStream) {
		if !f.chooses(s) {
			return
		}
		g := s.look(at)
		if !g.open {
			return
		}
		state := g.state(known)
		listing.Streams++
		listing.States[state]++
		if f.State == "" || f.State == state {
			chosen = append(chosen, s)
		}
	})
	slices.SortFunc(chosen, func(a, b *clientStream) int { return cmp.Compare(a.admission.opened, b.admission.opened) })
	if f.Limit > 0 && len(chosen) > f.Limit {
		chosen = chosen[:f.Limit]
	}
	for _, s := range chosen {
		if one, open := h.describe(s, at, known); open && (f.State == "" || f.State == one.State) {
			listing.Listed = append(listing.Listed, one)
		}
	}
	return listing
}

// chooses reports whether the filter chooses the stream, whatever its state.
func (f *Filter) chooses(s *clientStream) bool {
	return (f.ID == 0 || f.ID == s.admission.opened) && (f.User == "" || f.User == s.sub.user) &&
		(!f.Network.IsValid() || f.Network.Contains(s.admission.from))
}

// A stream is often served for some microseconds, in which its cursor cannot be read. lookClosely looks again looks
// times.
const (
	looks     = 5
	lookAgain = time.Millisecond
)

// lookClosely is look, but the cursor of a live stream follows the records that were not for its user.
func (h *Handler) lookClosely(s *clientStream, at *cursor) (g glance) {
	for range looks {
		if g = s.look(at); g.settled && !g.begun {
			return g
		}
		if g.settled {
			// Read before the stream: then the queue has all records before these positions that the stream has not considered.
			now := h.cfg.Hub.positions(g.topics)
			if g = s.look(at); g.idle && g.begun && !g.waits {
				g.at.advance(*now, nil)
			}
			cursors.Put(now)
		}
		if g.settled {
			return g
		}
		time.Sleep(lookAgain)
	}
	return g
}

// describe describes the stream. It returns false if the stream has ended.
func (h *Handler) describe(s *clientStream, at *cursor, known knownLogs) (one ListedStream, open bool) {
	g := h.lookClosely(s, at)
	w := &s.writer
	one = ListedStream{
		ID: s.admission.opened, User: s.sub.user, Address: addressText(s.admission.from), Opened: time.UnixMicro(s.admission.opened).UTC(),
		Protocol: s.protocol.String(), Kind: s.kind(), State: g.state(known), QueuedBytes: g.bytes, QueuedRecords: g.records,
		LastWrite: w.lastTaken(), Events: w.events.Load(), Bytes: w.taken(),
	}
	if g.begun {
		id := string(appendID(nil, g.at))
		one.Position = &id
		if behind, ok := known.countBehind(g.at); ok {
			one.Behind = &behind
		}
	}
	return one, g.open
}

// addressText returns the client's address. Of IPv6 the roster knows the network that counts as one client.
func addressText(from netip.Addr) string {
	switch {
	case !from.IsValid():
		return ""
	case from.Is6():
		return from.String() + "/64"
	default:
		return from.String()
	}
}

// EndChosen ends the streams that the filter chooses, with the reason [ErrReconnect], and returns their number. It cuts
// the client that does not read the reason within a second.
func (h *Handler) EndChosen(f Filter) int {
	open := func(s *clientStream) bool { return f.chooses(s) && s.sub.endCause() == nil }
	return h.roster.endStreams(ErrReconnect, open, func(fn func(*clientStream)) {
		if f.User != "" {
			h.roster.visitTokens([]string{f.User}, nil, fn)
			return
		}
		h.roster.visitStreams(fn)
	})
}
