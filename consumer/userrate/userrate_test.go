package userrate

import (
	"fmt"
	"testing"
	"time"
)

var start = time.Unix(0, 0)

func TestTakeOverTime(t *testing.T) {
	l := New(10, 5)
	now := start
	taken := 0
	for range 1000 { // 100 a second for 10 s
		if l.Take("a", now) == 0 {
			taken++
		}
		now = now.Add(10 * time.Millisecond)
	}
	if taken < 103 || taken > 105 {
		t.Errorf("%d in 10 s, want the burst and 10 a second", taken)
	}
}

func TestFullBucketsAreForgotten(t *testing.T) {
	l := New(10, 5)
	now := start
	for n := range 10 * minSweep {
		l.Take(fmt.Sprint(n), now)
		now = now.Add(time.Second)
	}
	if len(l.users) > minSweep {
		t.Errorf("%d users with a full bucket are remembered", len(l.users))
	}
}

// TestDebt charges more than a bucket holds. The user waits until the bucket has paid it. Other users do not wait.
func TestDebt(t *testing.T) {
	l := New(100, 1000)
	if wait := l.Debt("a", start); wait != 0 {
		t.Errorf("before the first charge: wait %v", wait)
	}
	l.Charge("a", 999, start)
	if wait := l.Debt("a", start); wait != 0 {
		t.Errorf("within the burst: wait %v", wait)
	}
	l.Charge("a", 3501, start) // more than three buckets
	for _, c := range []struct {
		user        string
		after, want time.Duration
	}{{"a", 0, 35 * time.Second}, {"a", 30 * time.Second, 5 * time.Second}, {"a", 35 * time.Second, 0}, {"b", 0, 0}} {
		if wait := l.Debt(c.user, start.Add(c.after)); wait != c.want {
			t.Errorf("%s after %v: wait %v, want %v", c.user, c.after, wait, c.want)
		}
	}
}

func TestNoLimit(t *testing.T) {
	l := New(0, 1)
	for range 3 {
		if wait := l.Take("a", start); wait != 0 {
			t.Errorf("take: wait %v", wait)
		}
		l.Charge("a", 1<<40, start)
	}
	if wait := l.Debt("a", start); wait != 0 {
		t.Errorf("debt: wait %v", wait)
	}
}

// TestSetRate changes the rate of a user in debt: the user waits less long at a higher rate, and not at all without a
// limit.
func TestSetRate(t *testing.T) {
	now := time.Now()
	l := New(1, 1)
	l.Charge("a", 101, now)
	if wait := l.Debt("a", now); wait != 100*time.Second {
		t.Errorf("at 1 a second: wait %v, want 100 s", wait)
	}
	l.SetRate(100, 10)
	if wait := l.Debt("a", now); wait < 900*time.Millisecond || wait > time.Second {
		t.Errorf("at 100 a second: wait %v, want 1 s", wait)
	}
	l.SetRate(0, 1)
	if wait := l.Debt("a", now); wait != 0 {
		t.Errorf("without a limit: wait %v", wait)
	}
	l.SetRate(1, 1)
	if first, second := l.Take("b", now), l.Take("b", now); first != 0 || second == 0 {
		t.Errorf("with a limit again: wait %v and %v, want 0 and 1 s", first, second)
	}
}
