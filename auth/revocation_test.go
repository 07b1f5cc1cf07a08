package auth

import (
	"errors"
	"testing"
	"time"
)

func TestRevocations(t *testing.T) {
	at := func(seconds int64) time.Time { return time.Unix(seconds, 0).UTC() }
	set := func(r *Revocations, key string, seconds, offset int64) {
		t.Helper()
		if err := r.Set(key, at(seconds).AppendFormat(nil, time.RFC3339), offset); err != nil {
			t.Fatal(err)
		}
	}
	r := NewRevocations()
	set(r, "user:alice", 100, 5)
	set(r, "user:alice", 50, 3) // an older record, which comes late
	set(r, "token:t1", 200, 0)
	set(r, "user:bob", 100, 1)
	if err := r.Set("user:bob", nil, 2); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		id   Identity
		want bool
	}{
		{Identity{User: "alice", IssuedAt: at(99)}, true},
		{Identity{User: "alice", IssuedAt: at(100)}, false},
		{Identity{User: "alice"}, true}, // nobody knows when it was issued
		{Identity{User: "Alice", IssuedAt: at(99)}, false},
		{Identity{User: "bob", IssuedAt: at(99)}, false},
		{Identity{User: "carol", ID: "t1", IssuedAt: at(199)}, true},
		{Identity{User: "carol", ID: "t1", IssuedAt: at(200)}, false},
		{Identity{User: "carol", ID: "t2", IssuedAt: at(1)}, false},
		{Identity{User: "alice:x", IssuedAt: at(1)}, false},
		{Identity{User: "token:t1", IssuedAt: at(1)}, false},
	} {
		if got := r.Revoked(c.id.User, c.id.ID, c.id.IssuedAt); got != c.want {
			t.Errorf("%+v: revoked %t", c.id, got)
		}
		if err := r.check(c.id); !errors.Is(err, ErrUnavailable) {
			t.Errorf("before they are complete: %v", err)
		}
	}
	r.Complete()
	if err := r.check(Identity{User: "alice", IssuedAt: at(99)}); !errors.Is(err, ErrRevoked) {
		t.Errorf("got %v, want ErrRevoked", err)
	}
	if err := r.check(Identity{User: "alice", IssuedAt: at(100)}); err != nil {
		t.Error(err)
	}
	for key, value := range map[string]string{"alice": "2026-01-31T08:00:00Z", "user:": "2026-01-31T08:00:00Z", "token:": "2026-01-31T08:00:00Z", "": "", "user:x": "soon", "user:y": ""} { //nolint:gosec // no secrets
		if err := r.Set(key, []byte(value), 0); err == nil {
			t.Errorf("%q: %q is taken", key, value)
		}
	}
}
