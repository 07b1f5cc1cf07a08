package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"herald/stream"
)

// TestStreamsCommand asks servers that have no streams, are no admin listener, are old, or do not answer.
func TestStreamsCommand(t *testing.T) {
	srv, _ := startServer(t, devRoutes)
	admin := "--admin=http://" + srv.AdminAddr().String()
	answer := func(status int, text string) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, text)
		}))
		t.Cleanup(s.Close)
		return "--admin=" + s.URL
	}
	for name, test := range map[string]struct {
		args []string
		code int
		want string
	}{
		"a server":           {[]string{admin}, 0, ""},
		"JSON":               {[]string{"--json", "--user=alice", "--state=slow", "--address=10.0.0.0/8", admin}, 0, ""},
		"nothing to end":     {[]string{"--end", "--user=alice", admin}, exitFailed, "no such stream is open on this server"},
		"a wrong address":    {[]string{"--address=here", admin}, exitFailed, "want an address or a network"},
		"the public address": {[]string{"--admin=http://" + srv.Addr().String()}, exitFailed, "this is the public listener: give --admin the address of --admin-listen"},
		"an old public one":  {[]string{answer(404, `{"error":{"message":"there is nothing at this path: this listener has GET /events"}}`)}, exitFailed, "this is the public listener"},
		"an old server":      {[]string{answer(404, "there is nothing at this path: this listener has GET /livez; GET /readyz; GET /metrics")}, exitFailed, "older than this command"},
		"another program":    {[]string{answer(200, "<html>\x1b")}, exitFailed, `not one of Herald's admin listener: OK: <html>\x1b`},
		"other JSON":         {[]string{answer(200, "{}")}, exitFailed, "not one of Herald's admin listener"},
		"nobody":             {[]string{"--admin=http://127.0.0.1:1"}, exitFailed, "connection refused: no server listens there: start it, or give its admin listener by --admin"},
		"no such state":      {[]string{"--state=dead"}, exitUsage, `--state=dead: want one of ["live" "catching-up" "waiting-for-kafka" "slow"]`},
		"end all":            {[]string{"--end"}, exitUsage, "--end needs either --user (all streams of the user) or --id (one stream)"},
		"end by state":       {[]string{"--end", "--user=alice", "--state=slow"}, exitUsage, "leave out --state and --address"},
		"a negative limit":   {[]string{"--limit=-1"}, exitUsage, "no negative number"},
	} {
		if code, stderr := start(t, with([]string{"streams"}, test.args...)...); code != test.code || !strings.Contains(stderr, test.want) {
			t.Errorf("%s: exit code %d, %q, want %d and %q", name, code, stderr, test.code, test.want)
		}
	}
}

// TestStreamsTable prints listings as a table.
func TestStreamsTable(t *testing.T) {
	now := time.Date(2026, 1, 31, 8, 0, 0, 0, time.UTC)
	written, behind := now.Add(-3*time.Second), int64(12)
	listing := stream.Listing{Streams: 3, States: map[stream.State]int{stream.StateLive: 1, stream.StateSlow: 2}, Listed: []stream.ListedStream{
		{ID: 1, User: "alice", Address: "127.0.0.1", Opened: now.Add(-90 * time.Minute), Protocol: "HTTP/2+TLS", Kind: "stream", State: stream.StateLive, Behind: &behind, LastWrite: &written},
		{ID: 22, User: "e\x1b[31m" + strings.Repeat("l", 100), Address: "2001:db8::/64", Opened: now.Add(-72 * time.Hour), Protocol: "HTTP/1.1", Kind: "poll", State: stream.StateSlow, QueuedBytes: 4096},
	}}
	var b strings.Builder
	if err := printStreams(&b, listing, now); err != nil {
		t.Fatal(err)
	}
	const want = `3 streams: 1 live, 2 slow
USER                              ADDRESS        AGE  PROTOCOL       STATE  BEHIND  QUEUE  LAST WRITE  ID
alice                             127.0.0.1      1h   HTTP/2+TLS     live   12      0      3s          1
e\x1b[31mllllllllllllllllllllll…  2001:db8::/64  3d   HTTP/1.1 poll  slow   ?       4096   never       22
not listed: 1, see --limit and --state
`
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
}
