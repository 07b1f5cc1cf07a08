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

// Prefixes of the keys of revocation records.
const (
	revokeUser  = "user:"
	revokeToken = "token:"
)

// Revocations refuse tokens that have not expired yet. A revocation is a record with a key and a time. The
// key says which tokens the revocation concerns:
//
//	user:NAME   all tokens of a user
//	token:ID    the token whose claim "jti" is ID
//
// The value is a time (RFC 3339). Revocations refuse each of these tokens whose claim "iat" is before the
// time, less than the leeway after the time, or missing. A record without a value withdraws the revocation.
// Until MarkComplete is called, [JWT] accepts no token at all, because a revocation may not be read yet.
// Revocations are safe for concurrent use.
//
// The records of a key may be in several logs, for three reasons: the topic got more partitions, producers
// choose partitions differently, or the topic was deleted and created again. Within a log the last record
// counts. Across logs the latest time counts, even if another record was written later: the clocks of
// producers differ, and no revocation may be missed because of that. A record that withdraws the revocation
// applies to a record of another log only if the other record's timestamp is older.
type Revocations struct {
	leeway   time.Duration
	complete atomic.Bool

	mu   sync.RWMutex
	keys map[string][]revocation // for each key the last record of each log
}

// Place identifies a revocation record by its position, and says when it was written.
type Place struct {
	Topic     [16]byte // topic id, which changes when the topic is deleted and created again
	Partition int32
	Offset    int64
	Time      time.Time // timestamp of the record
}

// revocation is the last record of a key in one log.
type revocation struct {
	Place
	before time.Time // tokens issued before it are refused; zero: the record withdraws the revocation
}

// NewRevocations returns revocations that are empty and not complete. leeway is the largest allowed
// difference between the issuer's clock and the clock that sets the time of a revocation.
func NewRevocations(leeway time.Duration) *Revocations {
	return &Revocations{leeway: leeway, keys: make(map[string][]revocation)}
}

// RevocationKey returns the record key for one token, or for all tokens of user if tokenID is empty.
func RevocationKey(user, tokenID string) string {
	if tokenID != "" {
		return revokeToken + tokenID
	}
	return revokeUser + user
}

// ParseRevocationKey returns the user or the token that the key of a revocation record concerns; false if the key
// is malformed.
func ParseRevocationKey(key string) (user, tokenID string, ok bool) {
	user, ofUser := strings.CutPrefix(key, revokeUser)
	if ofUser {
		return user, "", user != ""
	}
	tokenID, ofToken := strings.CutPrefix(key, revokeToken)
	return "", tokenID, ofToken && tokenID != ""
}

// SetRecord applies a record. Records may arrive in any order. A nil value withdraws the revocation. The
// error says why a record is malformed; it changes nothing.
func (r *Revocations) SetRecord(key string, value []byte, at Place) error {
	if _, _, ok := ParseRevocationKey(key); !ok {
		return fmt.Errorf("the key is neither %sNAME nor %sID", revokeUser, revokeToken)
	}
	var before time.Time
	if value != nil {
		var err error
		if before, err = time.Parse(time.RFC3339, string(value)); err != nil || before.IsZero() {
			return errors.New("the value is not a time like 2026-01-31T08:00:00Z")
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

// ForgetTopic removes the records of a topic that has been deleted.
func (r *Revocations) ForgetTopic(topic [16]byte) {
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

// Len returns the number of keys that have a revocation in effect.
func (r *Revocations) Len() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	n := 0
	for key := range r.keys {
		if !r.revokedBeforeLocked(key).IsZero() {
			n++
		}
	}
	return n
}

// revokedBeforeLocked returns the time of the revocation in effect for a key; zero: there is none. A
// reader's lock is enough.
func (r *Revocations) revokedBeforeLocked(key string) time.Time {
	var withdrawn, before time.Time
	list := r.keys[key]
	for i := range list {
		if list[i].before.IsZero() && list[i].Time.After(withdrawn) {
			withdrawn = list[i].Time
		}
	}
	for i := range list {
		if list[i].before.After(before) && !list[i].Time.Before(withdrawn) {
			before = list[i].before
		}
	}
	return before
}

// MarkComplete declares that every record that existed at the start has been applied.
func (r *Revocations) MarkComplete() { r.complete.Store(true) }

// IsComplete reports whether MarkComplete has been called.
func (r *Revocations) IsComplete() bool { return r.complete.Load() }

// IsRevoked reports whether a token of the user, with the id tokenID, is revoked. A zero issuedAt is
// earlier than every revocation.
func (r *Revocations) IsRevoked(user, tokenID string, issuedAt time.Time) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	refused := func(key string) bool {
		before := r.revokedBeforeLocked(key)
		return !before.IsZero() && issuedAt.Before(before.Add(r.leeway))
	}
	return refused(revokeUser+user) || tokenID != "" && refused(revokeToken+tokenID)
}

// checkIdentity returns [ErrRevoked] if the token behind id is revoked, and [ErrUnavailable] while the
// revocations are not complete. Nil revocations accept every token.
func (r *Revocations) checkIdentity(id Identity) error {
	switch {
	case r == nil:
		return nil
	case !r.IsComplete():
		return fmt.Errorf("%w: the revocations have not been read yet", ErrUnavailable)
	case r.IsRevoked(id.User, id.ID, id.IssuedAt):
		return ErrRevoked
	}
	return nil
}
