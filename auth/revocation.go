package auth

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// The keys of revocations.
const (
	revokeUser  = "user:"
	revokeToken = "token:"
)

// Revocations are the tokens that hold no more, though they have not expired. Each is kept under a key:
//
//	user:NAME   of all tokens of a user
//	token:ID    of the token whose claim "jti" is ID
//
// and has a time (RFC 3339): tokens issued before it or less than the leeway after it, by their claim
// "iat", are refused, and those that do not say when they were issued. Until they are told that they are
// complete, nobody knows of any token whether it holds. They are safe for concurrent use.
//
// The records of a key may be in several logs: partitions of a topic to which some were added, or whose
// producers choose them differently, and a topic that was created again. In one log the last record
// counts. Of those of several logs the latest time counts, whichever record is the later one: clocks
// differ, and no revocation may be missed for that. A record that takes back does so to the records of
// other logs that are older by their timestamps.
type Revocations struct {
	leeway   time.Duration
	complete atomic.Bool

	mu   sync.RWMutex
	keys map[string][]revocation // the last record of each log
}

// Place is where a record of a revocation is, and when it was written.
type Place struct {
	Topic     [16]byte // its id, which one that is created again does not have
	Partition int32
	Offset    int64
	Time      time.Time
}

type revocation struct {
	Place
	before time.Time // zero: taken back
}

// NewRevocations returns revocations that are not complete. leeway is how far the issuer's clock and the
// one that revokes may differ.
func NewRevocations(leeway time.Duration) *Revocations {
	return &Revocations{leeway: leeway, keys: make(map[string][]revocation)}
}

// RevocationKey returns the key for all tokens of a user, or for one token if tokenID is not empty.
func RevocationKey(user, tokenID string) string {
	if tokenID != "" {
		return revokeToken + tokenID
	}
	return revokeUser + user
}

// Set notes what a record says, in whatever order they come. A nil value takes the revocation back. The
// error says why the record is none.
func (r *Revocations) Set(key string, value []byte, at Place) error {
	name, ofUser := strings.CutPrefix(key, revokeUser)
	id, ofToken := strings.CutPrefix(key, revokeToken)
	if !ofUser && !ofToken || ofUser && name == "" || ofToken && id == "" {
		return fmt.Errorf("the key is none of %sNAME and %sID", revokeUser, revokeToken)
	}
	var before time.Time
	if value != nil {
		var err error
		if before, err = time.Parse(time.RFC3339, string(value)); err != nil || before.IsZero() {
			return errors.New("the value is no time like 2026-01-31T08:00:00Z")
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, was := range r.keys[key] {
		if was.Topic == at.Topic && was.Partition == at.Partition {
			if was.Offset <= at.Offset {
				r.keys[key][i] = revocation{at, before}
			}
			return nil
		}
	}
	r.keys[key] = append(r.keys[key], revocation{at, before})
	return nil
}

// Forget takes away what the records of a topic said that is there no more.
func (r *Revocations) Forget(topic [16]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for key, list := range r.keys {
		if list = slices.DeleteFunc(list, func(v revocation) bool { return v.Topic == topic }); len(list) > 0 {
			r.keys[key] = list
		} else {
			delete(r.keys, key)
		}
	}
}

// Len returns how many keys are revoked.
func (r *Revocations) Len() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	n := 0
	for key := range r.keys {
		if !r.before(key).IsZero() {
			n++
		}
	}
	return n
}

// before is the time of a key; zero: it is not revoked. r.mu is held.
func (r *Revocations) before(key string) time.Time {
	var undone, before time.Time
	list := r.keys[key]
	for i := range list {
		if list[i].before.IsZero() && list[i].Time.After(undone) {
			undone = list[i].Time
		}
	}
	for i := range list {
		if list[i].before.After(before) && !list[i].Time.Before(undone) {
			before = list[i].before
		}
	}
	return before
}

// Complete says that all revocations of before have been set.
func (r *Revocations) Complete() { r.complete.Store(true) }

// Done says whether they are complete.
func (r *Revocations) Done() bool { return r.complete.Load() }

// Revoked says whether a token holds no more.
func (r *Revocations) Revoked(user, tokenID string, issuedAt time.Time) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	refused := func(key string) bool {
		before := r.before(key)
		return !before.IsZero() && issuedAt.Before(before.Add(r.leeway))
	}
	return refused(revokeUser+user) || tokenID != "" && refused(revokeToken+tokenID)
}

// check is called for tokens that are good otherwise. The error is [ErrRevoked] or [ErrUnavailable]. No
// revocations take all tokens.
func (r *Revocations) check(id Identity) error {
	switch {
	case r == nil:
		return nil
	case !r.Done():
		return fmt.Errorf("%w: revocations are not read yet", ErrUnavailable)
	case r.Revoked(id.User, id.ID, id.IssuedAt):
		return ErrRevoked
	}
	return nil
}
