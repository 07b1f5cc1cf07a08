package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"
)

// tabReport is something that a tab's stream has said: a record, a gap, live, a state, or an error of the page.
type tabReport struct {
	Kind        string
	ID          string // of a record
	LastEventID string // the stream's, when the record's listener ran
	Data        string // of a record
	State       string
	Reason      string
	Shared      string
	Message     string
	at          time.Time // when the report arrived
}

// tab is a page with a stream.
type tab struct {
	site *site
	name string // "LINK NUMBER"
	link *link
	user string
	life time.Duration // of its tokens
	url  string        // of the stream

	shared bool // with the other tabs

	mu      sync.Mutex
	reports []tabReport
	batches map[string]bool // numbers of the batches of reports that have arrived
	tokens  int
}

// tabOptions are the module's options. A tab always has a token function.
type tabOptions struct {
	Share       bool   `json:"share,omitempty"`
	Since       string `json:"since,omitempty"`
	LastEventID string `json:"lastEventId,omitempty"`
	Session     bool   `json:"session,omitempty"`
	StaleAfter  int    `json:"staleAfter,omitempty"` // milliseconds
}

// newTab returns a tab that is not open yet. The link's name is also the user's.
func (s *site) newTab(linkName string) *tab {
	l := s.link(linkName)
	s.mu.Lock()
	defer s.mu.Unlock()
	b := &tab{
		site: s, link: l, user: linkName, life: time.Hour, url: "/via/" + linkName + "/events",
		name: fmt.Sprintf("%s %d", linkName, len(s.tabs)+1), batches: make(map[string]bool),
	}
	s.tabs[b.name] = b
	return b
}

// open opens the tab.
func (b *tab) open(t *testing.T, options tabOptions) {
	t.Helper()
	text, err := json.Marshal(options)
	if err != nil {
		t.Fatal(err)
	}
	b.shared = options.Share
	query := url.Values{"control": {b.site.control.URL}, "tab": {b.name}, "url": {b.url}, "options": {string(text)}}
	b.site.drive.open(t, b.name, b.site.base()+"/tab?"+query.Encode())
}

// openTab opens a tab and waits for its stream.
func (s *site) openTab(t *testing.T, linkName string, options tabOptions) *tab {
	t.Helper()
	b := s.newTab(linkName)
	b.open(t, options)
	b.waitState(t, "open")
	b.waitLive(t)
	return b
}

// waitLive waits until the tab's stream is live. The state is open before that, also while Herald waits for Kafka, and a
// record written meanwhile may come before the stream's beginning.
func (b *tab) waitLive(t *testing.T) {
	t.Helper()
	waitFor(t, b.name+" is live", func(context.Context) bool { return len(b.all("live")) > 0 })
}

func (b *tab) close(t *testing.T) { t.Helper(); b.site.drive.close(t, b.name) }

func (b *tab) tokenID() string { return "token-of-" + b.user }

// take adds a batch of reports, unless an earlier request has brought the batch.
func (b *tab) take(batch string, reports []tabReport) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.batches[batch] {
		return
	}
	b.batches[batch] = true
	for _, r := range reports {
		r.at = time.Now()
		b.reports = append(b.reports, r)
	}
}

func (b *tab) countToken() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tokens++
}

func (b *tab) countTokens() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.tokens
}

// all returns the reports of the kind.
func (b *tab) all(kind string) []tabReport {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(b.reports), func(r tabReport) bool { return r.Kind != kind })
}

// state returns the newest state.
func (b *tab) state() tabReport {
	states := b.all("state")
	if len(states) == 0 {
		return tabReport{}
	}
	return states[len(states)-1]
}

func (b *tab) waitState(t *testing.T, state string) tabReport {
	t.Helper()
	var last tabReport
	waitWithin(t, patience, func() string {
		return fmt.Sprintf("%s: state %s; last %+v, errors %+v", b.name, state, last, b.all("error"))
	},
		func(context.Context) bool {
			last = b.state()
			return last.State == state
		})
	return last
}

// waitRecord waits until the tab has the record.
func (b *tab) waitRecord(t *testing.T, data string) tabReport {
	t.Helper()
	var found tabReport
	waitWithin(t, patience, func() string {
		return fmt.Sprintf("%s: record %q; state %+v, errors %+v", b.name, data, b.state(), b.all("error"))
	},
		func(context.Context) bool {
			records := b.all("record")
			i := slices.IndexFunc(records, func(r tabReport) bool { return r.Data == data })
			if i >= 0 {
				found = records[i]
			}
			return i >= 0
		})
	return found
}

// anyNumber is a first number that check does not know.
const anyNumber = -1

// check waits for the last record of each lane. The tab must have got each lane's records from number first to the
// last, each once and in order, no gap, and no error.
func (b *tab) check(t *testing.T, lanes []*lane, first, count int) {
	t.Helper()
	for _, l := range lanes {
		b.waitRecord(t, fmt.Sprint(l.name, " ", count-1))
	}
	next := make(map[string]int)
	for _, r := range b.all("record") {
		var name string
		var n int
		if _, err := fmt.Sscan(r.Data, &name, &n); err != nil {
			t.Fatalf("%s: %q is not a numbered value of this test", b.name, r.Data)
		}
		want, begun := next[name]
		if !begun && first == anyNumber {
			want = n
		} else if !begun {
			want = first
		}
		if n != want {
			t.Errorf("%s: %s %d, want number %d: a record is missing, repeated or out of order", b.name, name, n, want)
		}
		if !b.shared && r.LastEventID != r.ID { // a tab that joins others has its own position
			t.Errorf("%s: lastEventId was %q at the record with the id %q", b.name, r.LastEventID, r.ID)
		}
		next[name] = n + 1
	}
	for _, kind := range []string{"gap", "error"} {
		if got := b.all(kind); len(got) > 0 {
			t.Errorf("%s: %+v", b.name, got)
		}
	}
}
