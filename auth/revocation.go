package auth

import (
	"errors"
	"fmt"
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
// and has a time (RFC 3339): tokens issued before it, by their claim "iat", are refused, and those that
// do not say when they were issued. Until they are told that they are complete, nobody knows of any
// token whether it holds. They are safe for concurrent use.
type Revocations struct {
	complete atomic.Bool

	mu    sync.RWMutex
	until map[string]revocation
}

type revocation struct {
	before time.Time // zero: taken back
	offset int64
}

// NewRevocations returns revocations that are not complete.
func NewRevocations() *Revocations { return &Revocations{until: make(map[string]revocation)} }

// RevocationKey returns the key for all tokens of a user, or for one token if tokenID is not empty.
func RevocationKey(user, tokenID string) string {
	if tokenID != "" {
		return revokeToken + tokenID
	}
	return revokeUser + user
}

// Set notes what a record says. The one with the highest offset counts, in whatever order they come:
// all of a key are in one partition. A nil value takes the revocation back. The error says why the
// record is none.
func (r *Revocations) Set(key string, value []byte, offset int64) error {
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
	if was, ok := r.until[key]; !ok || was.offset <= offset {
		r.until[key] = revocation{before, offset}
	}
	return nil
}

// Complete says that all revocations of before have been set.
func (r *Revocations) Complete() { r.complete.Store(true) }

// Done says whether they are complete.
func (r *Revocations) Done() bool { return r.complete.Load() }

// Revoked says whether a token holds no more.
func (r *Revocations) Revoked(user, tokenID string, issuedAt time.Time) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if issuedAt.Before(r.until[revokeUser+user].before) {
		return true
	}
	return tokenID != "" && issuedAt.Before(r.until[revokeToken+tokenID].before)
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
