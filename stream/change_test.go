package stream

import (
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestLimitsChange sets limits that the open streams exceed, and takes the limits back. The open streams stay, and
// count.
func TestLimitsChange(t *testing.T) {
	s := serveWith(t, Config{}, (*httptest.Server).Start)
	change := func(limits Admission) {
		settings := *s.handler.current.Load()
		settings.Admission = limits
		s.handler.Change(settings)
	}
	isRefused := func() bool {
		conn, answer := dial(t, s.url+"bob", "1.1")
		defer conn.Close() //nolint:errcheck // it was only read
		return strings.Contains(readUntil(t, answer, "\ndata: "), `{"reason":"busy"}`)
	}
	alice := open(t, s.url+"alice", "")
	alice.next()
	conn, answer := dial(t, s.url+"alice", "1.1")
	readUntil(t, answer, "checkpoint")
	for name, test := range map[string]struct {
		limits Admission
		want   bool
	}{
		"in all":                {Admission{Streams: 1}, true},
		"of an address":         {Admission{PerAddress: 2}, true},
		"of a user":             {Admission{PerUser: 1}, false},
		"more in all":           {Admission{Streams: 100}, false},
		"more of an address":    {Admission{PerAddress: 100}, false},
		"a second, the first":   {Admission{OpensPerSecond: 0.01}, false},
		"no limit of this kind": {Admission{}, false},
	} {
		change(test.limits)
		if got := isRefused(); got != test.want {
			t.Errorf("%s: another stream is refused: %v, want %v", name, got, test.want)
		}
		change(Admission{})
	}
	put(t, s.producer, "all", "", "for all")
	if e := alice.nextButCheckpoint(); e.data != "for all" {
		t.Errorf("the open stream got %+v", e)
	}
	waitForCount(t, s, 2)
	change(Admission{PerAddress: 1})
	_ = conn.Close()
	waitForCount(t, s, 1)
	if !isRefused() {
		t.Error("a second stream of an address is not refused, after a third has left that was open before the limit")
	}
	_ = alice.res.Body.Close()
	waitForCount(t, s, 0)
	if isRefused() {
		t.Error("the first stream of an address is refused")
	}
}

// TestPollsChange bounds a user's polls while one is open. It counts.
func TestPollsChange(t *testing.T) {
	s := serveWith(t, Config{}, (*httptest.Server).Start)
	poll := func() net.Conn {
		conn, _ := dial(t, s.url+"alice&wait=30s", "1.1")
		return conn
	}
	first := poll()
	waitForCount(t, s, 1)
	settings := *s.handler.current.Load()
	settings.Admission.PerUser = 1
	s.handler.Change(settings)
	conn, answer := dial(t, s.url+"alice&wait=30s", "1.1")
	if got := readUntil(t, answer, "\ndata: "); !strings.Contains(got, `{"reason":"busy"}`) {
		t.Errorf("a second poll got %q", got)
	}
	_ = conn.Close()
	_ = first.Close()
	waitForCount(t, s, 0)
	if len(s.handler.roster.polls) != 0 {
		t.Errorf("polls are left: %v", s.handler.roster.polls)
	}
}

// waitForCount waits until that many streams count.
func waitForCount(t *testing.T, s *site, want int) {
	t.Helper()
	count := func() int {
		s.handler.roster.mu.Lock()
		defer s.handler.roster.mu.Unlock()
		return s.handler.roster.count
	}
	for deadline := time.Now().Add(20 * time.Second); count() != want; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d streams count, want %d", count(), want)
		}
	}
}
