package integration

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// account is the result of a soak.
type account struct {
	events, large, lost, twice, outOfOrder int
	gaps, told                             int // gap events, and records that they report
}

// compare compares the records and gaps that each client received with the log.
func (s *soak) compare(clients []*soakClient) {
	log, start := make(map[*lane][]*kgo.Record), make(map[*lane]int64)
	for _, l := range s.lanes {
		log[l], start[l] = s.ended(l)
		switch d := s.fleeting[l]; {
		case d == nil:
		case d.byKafka:
			s.faults["records deleted by retention"] += int(start[l])
		default:
			s.faults["records deleted by request"] += int(start[l])
		}
	}
	var sum account
	for i, c := range clients {
		for _, g := range c.other {
			s.t.Errorf("client %d got %+v, which retention does not explain", i, g)
		}
		for _, l := range s.lanesOf(c.user) {
			if err := sum.add(c.user, log[l], start[l], c.got[l.name]); err != nil {
				s.t.Errorf("client %d, %s: %v", i, l.name, err)
			}
		}
	}
	var faults []string
	for _, kind := range slices.Sorted(maps.Keys(s.faults)) {
		faults = append(faults, fmt.Sprintf("%s %d", kind, s.faults[kind]))
	}
	line := fmt.Sprintf("%d clients, %d events, %d of them large; cut by an end %d, by a reset %d, stalls %d, streams timed out %d; %s; lost %d, twice %d, out of order %d; gaps %d, covering %d records",
		len(clients), sum.events, sum.large, s.ends.Load(), s.resets.Load(), s.stalls.Load(), s.timeouts(), strings.Join(faults, ", "),
		sum.lost, sum.twice, sum.outOfOrder, sum.gaps, sum.told)
	s.t.Log(line)
	if sum.lost+sum.twice+sum.outOfOrder > 0 {
		s.t.Error(line)
	}
}

// add adds to the account what a client of the user received from one log. start is where the log starts at the
// end of the test. The client must receive each record of the user once, or a gap that covers it; the error says
// which event is impossible. A gap must begin after the last received record and must not reach past the start of
// the log at the time of the gap.
func (a *account) add(user string, log []*kgo.Record, start int64, got []soakEvent) error {
	place := make(map[string]int64)
	for _, r := range log {
		if key := string(r.Key); key == user || key == "" {
			value := strings.Fields(string(r.Value))[1]
			place[value] = r.Offset
		}
	}
	told := 0
	next := int64(0) // where the client is
	seen := make(map[string]bool)
	for _, e := range got {
		if g := e.gap; g != nil {
			a.gaps++
			if g.From < next || g.From >= g.To || g.To > min(start, e.start) {
				return fmt.Errorf("at %d it received the gap %+v; the log started at %d", next, *g, min(start, e.start))
			}
			for _, offset := range place {
				if g.From <= offset && offset < g.To {
					told++
				}
			}
			next = g.To
			continue
		}
		a.events++
		if e.large {
			a.large++
		}
		at, ok := place[e.value]
		switch {
		case !ok:
			return fmt.Errorf("%q is not for it", e.value)
		case seen[e.value]:
			a.twice++
		case at < next:
			a.outOfOrder++
		}
		seen[e.value] = true
		next = max(next, at+1)
	}
	a.told += told
	a.lost += len(place) - len(seen) - told
	return nil
}

// TestSoakAccount checks that the account finds each kind of fault.
func TestSoakAccount(t *testing.T) {
	var log []*kgo.Record
	for n := range int64(6) {
		r := record("", []string{"alice", "bob"}[n%2], fmt.Sprint("lane ", n))
		r.Offset = 10 + n
		log = append(log, r)
	}
	value := func(n int) soakEvent { return soakEvent{value: fmt.Sprint(n)} }
	gap := func(from, to int64) soakEvent { return soakEvent{gap: &lossGap{From: from, To: to}, start: 13} }
	for name, test := range map[string]struct {
		got  []soakEvent
		want account
		err  bool
	}{
		"all":                 {got: []soakEvent{value(0), value(2), value(4)}, want: account{events: 3}},
		"told":                {got: []soakEvent{gap(0, 11), value(2), value(4)}, want: account{events: 2, gaps: 1, told: 1}},
		"lost":                {got: []soakEvent{value(0), value(4)}, want: account{events: 2, lost: 1}},
		"twice":               {got: []soakEvent{value(0), value(2), value(2), value(4)}, want: account{events: 4, twice: 1}},
		"out of order":        {got: []soakEvent{value(2), value(0), value(4)}, want: account{events: 3, outOfOrder: 1}},
		"lost after the gap":  {got: []soakEvent{gap(0, 11), value(4)}, want: account{events: 1, gaps: 1, told: 1, lost: 1}},
		"received, told lost": {got: []soakEvent{value(0), gap(10, 13), value(4)}, err: true},
		"told twice":          {got: []soakEvent{gap(0, 12), gap(0, 13), value(4)}, err: true},
		"retained, told lost": {got: []soakEvent{value(0), gap(11, 14), value(4)}, err: true},
		"told too early":      {got: []soakEvent{{gap: &lossGap{To: 13}, start: 12}, value(4)}, err: true},
		"another's":           {got: []soakEvent{value(1)}, err: true},
	} {
		var got account
		err := got.add("alice", log, 13, test.got)
		if (err != nil) != test.err || err == nil && got != test.want {
			t.Errorf("%s: %+v, %v; want %+v", name, got, err, test.want)
		}
	}
}
