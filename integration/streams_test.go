package integration

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestSlowClientIsListed opens a stream and takes nothing of it, while more is published than the socket holds. The
// listing must show that the stream is slow, and what waits for it.
func TestSlowClientIsListed(t *testing.T) {
	t.Parallel()
	h := startDev(t, "--write-timeout=2m") // longer than the test takes
	client, err := new(net.Dialer).DialContext(t.Context(), "tcp", h.public)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	if err := client.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil { //nolint:forcetypeassert // of a dial of tcp
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(client, "GET /events?user=alice HTTP/1.1\r\nHost: %s\r\n\r\n", h.public); err != nil {
		t.Fatal(err)
	}
	h.waitState("alice", "live")
	body, deadline := strings.Repeat("x", 500<<10), time.Now().Add(patience)
	for {
		if a := mustSend(t, http.MethodPost, "http://"+h.public+"/users/alice/notifications", body); a.status >= 300 {
			t.Fatalf("POST: %d %s", a.status, a.body)
		}
		one := listed(t, h, "--user=alice", "--state=slow")
		if len(one) == 1 && one[0].QueuedBytes > 0 && one[0].Position != nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("slow streams: %+v, want alice's with bytes that wait", one)
		}
	}
	table, _, err := runHerald(t, "streams", "--admin=http://"+h.admin)
	if err != nil || !strings.HasPrefix(table, "1 stream: 1 slow\n") {
		t.Errorf("herald streams: %v, %s", err, table)
	}
}

// TestStreamsEndedByOperator ends a user's streams while records are published. Her clients must come back and get each
// record once. Other users' streams must stay.
func TestStreamsEndedByOperator(t *testing.T) {
	t.Parallel()
	h := startDev(t)
	const clients, rounds, records = 2, 3, 20
	var streams [clients]*eventSource
	for i := range streams {
		streams[i] = newStream(t, h.public, "alice")
		streams[i].Reconnect()
	}
	bob := newStream(t, h.public, "bob")
	bob.Reconnect()
	publish := func(user, text string) {
		t.Helper()
		if a := mustSend(t, http.MethodPost, "http://"+h.public+"/users/"+user+"/notifications", text); a.status >= 300 {
			t.Fatalf("POST: %d %s", a.status, a.body)
		}
	}
	for round := range rounds {
		for i := range records / 2 {
			publish("alice", fmt.Sprint(round, ".", i))
		}
		if out, complaints, err := runHerald(t, "streams", "--admin=http://"+h.admin, "--user=alice", "--end"); err != nil || !strings.Contains(out, "ended 2 streams") {
			t.Fatalf("herald streams --end: %v, %s%s", err, out, complaints)
		}
		for i := records / 2; i < records; i++ {
			publish("alice", fmt.Sprint(round, ".", i))
		}
		for _, s := range streams {
			var got []string
			collect := func(e event) {
				if e.Type == "message" {
					got = append(got, e.Data)
				}
			}
			events := s.AwaitEnd()
			for _, e := range events {
				collect(e)
			}
			if last := events[len(events)-1]; last.Type != "end" || last.Data != `{"reason":"reconnect"}` {
				t.Fatalf("the stream ended with %+v", last)
			}
			for s.Reconnect(); len(got) < records; {
				collect(s.Event())
			}
			for i, data := range got {
				if want := fmt.Sprint(round, ".", i); data != want {
					t.Fatalf("round %d: record %d is %s, want %s: %q", round, i, data, want, got)
				}
			}
		}
	}
	publish("bob", "still")
	if e := bob.Record(); e.Data != "still" {
		t.Errorf("bob got %+v", e)
	}
	if ended := h.Metric(`herald_streams_ended_total{reason="reconnect"}`); ended != clients*rounds {
		t.Errorf("%v streams count as ended, want %d", ended, clients*rounds)
	}
}

// listedStream is a stream as `herald streams --json` prints it.
type listedStream struct {
	State       string  `json:"state"`
	Position    *string `json:"position"`
	QueuedBytes int     `json:"queued_bytes"`
}

// listed returns the streams that `herald streams` lists.
func listed(t *testing.T, h *herald, args ...string) []listedStream {
	t.Helper()
	out, complaints, err := runHerald(t, append([]string{"streams", "--json", "--admin=http://" + h.admin}, args...)...)
	var listing struct {
		Listed []listedStream `json:"listed"`
	}
	if err == nil {
		err = json.Unmarshal([]byte(out), &listing)
	}
	if err != nil {
		t.Fatalf("herald streams %q: %v\n%s%s", args, err, out, complaints)
	}
	return listing.Listed
}
