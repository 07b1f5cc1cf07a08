package server

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	repeatWindow   = 10 * time.Minute
	maxRepeats     = 10_000 // remembered keys
	maxUserRepeats = 1_000  // of one user
	maxRepeatKey   = 255    // bytes
)

// repeats remembers the answers to notifications with an Idempotency-Key, so that a repeated
// notification is not written again (draft-ietf-httpapi-idempotency-key-header). It is in this
// replica's memory: neither a restart nor another replica knows the keys, and a notification that Kafka
// did not confirm is not remembered. Therefore the record holds the key too, for readers that must
// recognize repetitions.
type repeats struct {
	mu    sync.Mutex
	known map[repeatKey]*attempt
	order []*attempt     // oldest first
	users map[string]int // the number of each user's attempts
}

// repeatKey belongs to one user: nobody can find out the answer to another user's key.
type repeatKey struct{ user, key string }

// attempt is the first notification with a key.
type attempt struct {
	key    repeatKey
	of     [32]byte // fingerprint of the notification
	at     time.Time
	done   bool
	answer published
}

func newRepeats() *repeats {
	return &repeats{known: make(map[repeatKey]*attempt), users: make(map[string]int)}
}

var (
	errRepeatPending = refuse(http.StatusConflict, codePending, "a request with this Idempotency-Key is under way")
	errRepeatsFull   = refuse(http.StatusServiceUnavailable, codeBusy, "too many requests with an Idempotency-Key are under way: nothing was written")
	errRepeatOther   = refuse(http.StatusUnprocessableEntity, codeKeyReused, "this Idempotency-Key was used for another notification")
)

// begin returns the attempt with the key. If the attempt is done, the notification is a repetition and
// gets the attempt's answer. Otherwise the notification is the first one: the caller writes it and then
// calls end.
func (r *repeats) begin(key repeatKey, of [32]byte, now time.Time) (*attempt, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forgetOldLocked(now)
	known := r.known[key]
	switch {
	case known == nil && !r.makeRoomLocked(key.user):
		return nil, errRepeatsFull
	case known == nil:
		first := &attempt{key: key, of: of, at: now}
		r.known[key] = first
		r.order = append(r.order, first)
		r.users[key.user]++
		return first, nil
	case known.of != of:
		return nil, errRepeatOther
	case !known.done:
		return nil, errRepeatPending
	}
	return known, nil
}

// end keeps the answer of an attempt that succeeded. It forgets an attempt that failed, so that the
// client can try again.
func (r *repeats) end(first *attempt, answer published, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	first.done, first.answer = ok, answer
	if !ok {
		r.removeLocked(slices.Index(r.order, first))
	}
}

// forgetOldLocked forgets attempts that are older than the window. An attempt under way stays: without
// it a repetition would be written.
func (r *repeats) forgetOldLocked(now time.Time) {
	if len(r.order) == 0 || now.Sub(r.order[0].at) <= repeatWindow {
		return
	}
	r.order = slices.DeleteFunc(r.order, func(a *attempt) bool {
		old := a.done && now.Sub(a.at) > repeatWindow
		if old {
			r.uncountLocked(a)
		}
		return old
	})
}

// makeRoomLocked makes room for one more attempt of the user. If the memory is full, it forgets the
// oldest answer; if the user's share is full, the user's oldest answer. It returns false if all of
// these attempts are under way.
func (r *repeats) makeRoomLocked(user string) bool {
	own := r.users[user] >= maxUserRepeats
	if !own && len(r.order) < maxRepeats {
		return true
	}
	n := slices.IndexFunc(r.order, func(a *attempt) bool { return a.done && (!own || a.key.user == user) })
	if n < 0 {
		return false
	}
	r.removeLocked(n)
	return true
}

// removeLocked forgets the attempt at index n.
func (r *repeats) removeLocked(n int) {
	r.uncountLocked(r.order[n])
	r.order = slices.Delete(r.order, n, n+1)
}

func (r *repeats) uncountLocked(a *attempt) {
	delete(r.known, a.key)
	if r.users[a.key.user]--; r.users[a.key.user] == 0 {
		delete(r.users, a.key.user)
	}
}

// idempotencyKey returns the value of the Idempotency-Key header; empty if there is none. The draft
// requires quotes around it (RFC 8941, section 3.3.3), but many clients leave them out, so both are
// accepted.
func idempotencyKey(h http.Header) (string, error) {
	values := h.Values("Idempotency-Key")
	if len(values) == 0 {
		return "", nil
	}
	key := values[0]
	if len(key) >= 2 && key[0] == '"' && key[len(key)-1] == '"' {
		key = key[1 : len(key)-1]
	}
	if len(values) > 1 || key == "" || len(key) > maxRepeatKey || strings.ContainsFunc(key, func(c rune) bool { return c < ' ' || c > '~' || c == '"' || c == '\\' }) {
		return "", refuse(http.StatusBadRequest, codeInvalidKey, "Idempotency-Key: want one, of 1 to 255 printable ASCII characters without quotes and backslashes")
	}
	return key, nil
}
