package integration

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// nativePage opens a stream for each user in its address and posts every event that its EventSources dispatch.
const nativePage = `<!DOCTYPE html>
<title>Native EventSource</title>
<script>
` + fetchAgain + `
const waiting = [];
let posting = false, batch = 0;
async function post() {
	if (posting) return;
	posting = true;
	while (waiting.length > 0) {
		batch++;
		await fetchAgain('/reports?batch=' + batch, { method: 'POST', body: JSON.stringify(waiting.splice(0)) });
	}
	posting = false;
}
for (const user of new URLSearchParams(location.search).getAll('user')) {
	const source = new EventSource('/events?user=' + encodeURIComponent(user));
	for (const type of ['message', 'checkpoint', 'gap', 'end', 'error']) {
		source.addEventListener(type, (e) => {
			waiting.push({ user, type, id: e.lastEventId, data: e.data, closed: source.readyState === EventSource.CLOSED });
			post();
		});
	}
}
</script>
`

// nativeReport is one event at a page.
type nativeReport struct {
	User string
	event
	Closed bool // the EventSource has closed for good
}

// origin serves the page. It relays the page's streams to herald and cuts their connections.
type origin struct {
	herald      string
	server      *httptest.Server
	streams     map[string]*nativeStream // by user
	connections sync.WaitGroup
	stop        chan struct{}

	reporting sync.Mutex // held while a batch of reports is taken
	taken     int        // number of the newest batch that was taken
}

// nativeStream is a user's EventSource at the page and its connection.
type nativeStream struct {
	user    string
	reports chan nativeReport

	mu      sync.Mutex
	hold    chan struct{}    // if not nil, connections wait until it is closed
	limit   func() int64     // bytes of the body after which a connection is cut; nil: never
	lastIDs []string         // Last-Event-ID of each connection
	cuts    int              // by limit
	drop    func(reset bool) // cuts the connection
}

// newOrigin serves the page for these users.
func newOrigin(t *testing.T, h *herald, users ...string) *origin {
	t.Helper()
	o := &origin{herald: h.public, streams: make(map[string]*nativeStream), stop: make(chan struct{})}
	for _, user := range users {
		o.streams[user] = &nativeStream{user: user, reports: make(chan nativeReport, 1000), drop: func(bool) {}}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprint(w, nativePage)
	})
	mux.HandleFunc("POST /reports", o.report)
	mux.HandleFunc("GET /events", func(w http.ResponseWriter, r *http.Request) {
		o.connections.Add(1) // before the server forgets the connection
		defer o.connections.Done()
		if err := o.relay(w, r); err != nil {
			t.Errorf("relay a stream: %v", err)
		}
	})
	o.server = httptest.NewServer(mux)
	t.Cleanup(func() {
		close(o.stop)
		for _, s := range o.streams {
			s.cut(true)
		}
		o.server.Close()
		o.connections.Wait()
	})
	return o
}

// page returns the URL of the page.
func (o *origin) page() string {
	users := make(url.Values)
	for user := range o.streams {
		users.Add("user", user)
	}
	return o.server.URL + "/?" + users.Encode()
}

// report takes a batch of reports, unless an earlier request has brought the batch.
func (o *origin) report(w http.ResponseWriter, r *http.Request) {
	batch, err := strconv.Atoi(r.URL.Query().Get("batch"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var reports []nativeReport
	if err := json.NewDecoder(r.Body).Decode(&reports); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	o.reporting.Lock()
	defer o.reporting.Unlock()
	if batch <= o.taken {
		reports = nil
	}
	o.taken = max(o.taken, batch)
	for _, report := range reports {
		select {
		case o.streams[report.User].reports <- report:
		case <-o.stop:
		}
	}
	w.WriteHeader(http.StatusNoContent)
}

// relay relays one connection and cuts it after the limit of bytes. It never cuts in the header of the response,
// because the standard does not say what a browser does with part of a header.
func (o *origin) relay(w http.ResponseWriter, r *http.Request) error {
	s := o.streams[r.URL.Query().Get("user")]
	hold := s.connected(r.Header.Get("Last-Event-ID"))
	if hold != nil {
		select {
		case <-hold:
		case <-o.stop:
			return nil
		}
	}
	to, err := (&net.Dialer{}).DialContext(r.Context(), "tcp", o.herald)
	if err != nil && r.Context().Err() != nil {
		return nil // the browser has gone
	}
	if err != nil {
		return err
	}
	defer to.Close() //nolint:errcheck // cut
	if err := r.Write(to); err != nil {
		return err
	}
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return err
	}
	limit := s.relayed(func(reset bool) {
		if reset {
			_ = conn.(*net.TCPConn).SetLinger(0)
		}
		_ = conn.Close()
		_ = to.Close()
	})
	select {
	case <-o.stop: // before there was something to cut
		s.cut(true)
		return nil
	default:
	}
	from := bufio.NewReader(to)
	for line := ""; line != "\r\n"; {
		if line, err = from.ReadString('\n'); err == nil {
			_, err = io.WriteString(conn, line)
		}
		if err != nil {
			return nil // cut by the test
		}
	}
	if limit == 0 {
		_, _ = io.Copy(conn, from) // until the test cuts it
		return nil
	}
	if _, err := io.CopyN(conn, from, limit); err == nil {
		s.mu.Lock()
		s.cuts++
		s.mu.Unlock()
	}
	s.cut(rand.IntN(2) == 0)
	return nil
}

func (s *nativeStream) connected(lastID string) (hold chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastIDs = append(s.lastIDs, lastID)
	return s.hold
}

func (s *nativeStream) relayed(drop func(reset bool)) (limit int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop = drop
	if s.limit == nil {
		return 0
	}
	return s.limit()
}

// cut closes the connection: with a reset, which loses bytes under way, or with a regular end.
func (s *nativeStream) cut(reset bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(reset)
}

// cutAfter cuts the connection, and each later connection after limit() bytes. With nil, later connections are not
// cut.
func (s *nativeStream) cutAfter(limit func() int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limit = limit
	s.drop(true)
}

func (s *nativeStream) countCuts() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cuts
}

// holdOff holds new connections. The function that it returns waits for a new connection, releases all connections
// and returns the Last-Event-ID of the newest connection.
func (s *nativeStream) holdOff() func(t *testing.T) string {
	hold := make(chan struct{})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hold = hold
	before := len(s.lastIDs)
	return func(t *testing.T) string {
		t.Helper()
		var lastID string
		waitWithin(t, patience, func() string { return s.user + ": the EventSource connects again" }, func(context.Context) bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			came := len(s.lastIDs)
			if came == before {
				return false
			}
			s.hold, lastID = nil, s.lastIDs[came-1]
			close(hold)
			return true
		})
		return lastID
	}
}

// next waits for the next event that the page receives. The test fails if the EventSource closes for good.
func (s *nativeStream) next(t *testing.T) event {
	t.Helper()
	timer := time.After(patience)
	for {
		select {
		case r := <-s.reports:
			switch {
			case r.Closed:
				t.Fatalf("%s: the EventSource has closed for good", s.user)
			case r.Type == "error": // it connects again
			default:
				return r.event
			}
		case <-timer:
			t.Fatalf("%s: no event in %s", s.user, patience)
		}
	}
}

// live waits until the stream is live. Records that are written later come after the checkpoint that it returns.
func (s *nativeStream) live(t *testing.T) event {
	t.Helper()
	for {
		e := s.next(t)
		if e.Type != "checkpoint" || e.ID == "" {
			t.Fatalf("%s: the stream begins with %+v, want a checkpoint with an id", s.user, e)
		}
		if strings.Contains(e.Data, `"live":true`) {
			return e
		}
	}
}

// record waits for the next record, past checkpoints.
func (s *nativeStream) record(t *testing.T) event {
	t.Helper()
	for {
		switch e := s.next(t); e.Type {
		case "checkpoint":
		case "message":
			return e
		default:
			t.Fatalf("%s: got %+v where a record was expected", s.user, e)
		}
	}
}
