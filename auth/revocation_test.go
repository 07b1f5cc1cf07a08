package auth

import (
	"errors"
	"testing"
	"time"
)

// second returns the time n seconds after the start of Unix time.
func second(n int64) time.Time { return time.Unix(n, 0).UTC() }

// setRevocation applies a record that revokes tokens issued before a second, or, with 0, withdraws the revocation.
func setRevocation(t *testing.T, r *Revocations, key string, before int64, at Place) {
	t.Helper()
	var value []byte
	if before != 0 {
		value = second(before).AppendFormat(nil, time.RFC3339)
	}
	if err := r.SetRecord(key, value, at); err != nil {
		t.Fatal(err)
	}
}

func TestRevocations(t *testing.T) {
	r := NewRevocations(10 * time.Second)
	setRevocation(t, r, "user:alice", 100, Place{Offset: 5})
	setRevocation(t, r, "user:alice", 150, Place{Offset: 3}) // an older record that arrives late
	setRevocation(t, r, "token:t1", 200, Place{})
	setRevocation(t, r, "user:bob", 100, Place{Offset: 1})
	setRevocation(t, r, "user:bob", 0, Place{Offset: 2})
	if got := r.Len(); got != 2 {
		t.Errorf("%d keys are revoked, want 2", got)
	}
	for _, c := range []struct {
		id   Identity
		want bool
	}{
		{Identity{User: "alice", IssuedAt: second(99)}, true},
		{Identity{User: "alice", IssuedAt: second(109)}, true}, // the issuer's clock may be ahead
		{Identity{User: "alice", IssuedAt: second(110)}, false},
		{Identity{User: "alice"}, true}, // the time of issue is unknown
		{Identity{User: "Alice", IssuedAt: second(99)}, false},
		{Identity{User: "bob", IssuedAt: second(99)}, false},
		{Identity{User: "bob"}, false},
		{Identity{User: "carol"}, false},
		{Identity{User: "carol", ID: "t1", IssuedAt: second(209)}, true},
		{Identity{User: "carol", ID: "t1", IssuedAt: second(210)}, false},
		{Identity{User: "carol", ID: "t2", IssuedAt: second(1)}, false},
		{Identity{User: "alice:x", IssuedAt: second(1)}, false},
		{Identity{User: "token:t1", IssuedAt: second(1)}, false},
	} {
		if got := r.IsRevoked(c.id.User, c.id.ID, c.id.IssuedAt); got != c.want {
			t.Errorf("%+v: revoked %t", c.id, got)
		}
		if err := r.checkIdentity(c.id); !errors.Is(err, ErrUnavailable) {
			t.Errorf("%+v before the revocations are complete: %v, want ErrUnavailable", c.id, err)
		}
	}
	r.MarkComplete()
	if err := r.checkIdentity(Identity{User: "alice", IssuedAt: second(99)}); !errors.Is(err, ErrRevoked) {
		t.Errorf("got %v, want ErrRevoked", err)
	}
	if err := r.checkIdentity(Identity{User: "alice", IssuedAt: second(110)}); err != nil {
		t.Error(err)
	}
	for key, value := range map[string]string{"alice": "2026-01-31T08:00:00Z", "user:": "2026-01-31T08:00:00Z", "token:": "2026-01-31T08:00:00Z", "": "", "user:x": "soon", "user:y": ""} { //nolint:gosec // no secrets
		if err := r.SetRecord(key, []byte(value), Place{}); err == nil {
			t.Errorf("the malformed record %q: %q is accepted", key, value)
		}
	}
}

// TestRevocationsInSeveralLogs applies the records of a key from several partitions and topics, each with its own
// offsets, in both orders.
func TestRevocationsInSeveralLogs(t *testing.T) {
	type record struct {
		before int64 // 0: the record withdraws the revocation
		at     Place
	}
	old, fresh := [16]byte{1}, [16]byte{2}
	for name, c := range map[string]struct {
		records []record
		want    int64 // first second of issue at which a token is accepted; 0: any
	}{
		"the later record has the lower offset":  {[]record{{100, Place{old, 0, 9, second(100)}}, {200, Place{old, 1, 0, second(200)}}}, 200},
		"in a topic created again":               {[]record{{100, Place{old, 0, 9, second(100)}}, {200, Place{fresh, 0, 0, second(200)}}}, 200},
		"by a clock that is late":                {[]record{{100, Place{old, 0, 9, second(100)}}, {200, Place{old, 1, 0, second(50)}}}, 200},
		"withdrawn in another partition":         {[]record{{100, Place{old, 0, 9, second(100)}}, {0, Place{old, 1, 0, second(101)}}}, 0},
		"withdrawn in a topic created again":     {[]record{{100, Place{old, 0, 9, second(100)}}, {0, Place{fresh, 0, 0, second(101)}}}, 0},
		"revoked after a withdrawal":             {[]record{{100, Place{old, 0, 9, second(100)}}, {0, Place{old, 1, 0, second(101)}}, {102, Place{old, 0, 10, second(102)}}}, 102},
		"withdrawn in two partitions":            {[]record{{0, Place{old, 0, 1, second(100)}}, {0, Place{old, 1, 2, second(99)}}}, 0},
		"revoked and withdrawn at the same time": {[]record{{100, Place{old, 0, 9, second(100)}}, {0, Place{old, 1, 0, second(100)}}}, 100},
		"withdrawn by a clock that went back":    {[]record{{100, Place{old, 0, 9, second(100)}}, {0, Place{old, 0, 10, second(90)}}}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			forward, backward := NewRevocations(0), NewRevocations(0)
			for i := range c.records {
				setRevocation(t, forward, "user:alice", c.records[i].before, c.records[i].at)
				last := c.records[len(c.records)-1-i]
				setRevocation(t, backward, "user:alice", last.before, last.at)
			}
			for _, r := range []*Revocations{forward, backward} {
				if c.want > 0 && !r.IsRevoked("alice", "", second(c.want-1)) {
					t.Errorf("a token issued at second %d is accepted", c.want-1)
				}
				if r.IsRevoked("alice", "", second(c.want)) {
					t.Errorf("a token issued at second %d is refused", c.want)
				}
			}
		})
	}
}

// TestForgetTopicRemovesItsRevocations forgets one of two topics. The revocations of the other must stay.
func TestForgetTopicRemovesItsRevocations(t *testing.T) {
	r := NewRevocations(0)
	old, fresh := [16]byte{1}, [16]byte{2}
	setRevocation(t, r, "user:alice", 200, Place{Topic: old, Time: second(1)})
	setRevocation(t, r, "user:alice", 100, Place{Topic: fresh, Time: second(2)})
	setRevocation(t, r, "user:bob", 100, Place{Topic: old, Time: second(1)})
	r.ForgetTopic(old)
	if !r.IsRevoked("alice", "", second(99)) || r.IsRevoked("alice", "", second(100)) || r.IsRevoked("bob", "", second(1)) || r.Len() != 1 {
		t.Errorf("%d revocations are left: %+v", r.Len(), r.keys)
	}
}
