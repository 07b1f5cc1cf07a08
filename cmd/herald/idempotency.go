package main

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/labstack/echo/v4"
)

const (
	repeatWindow   = 10 * time.Minute
	maxRepeats     = 10_000 // keys that are remembered
	maxUserRepeats = 1_000  // of one user
	maxRepeatKey   = 255    // bytes
)

// repeats remember what came of notifications with a key, so that one that is sent again is not
// written again (draft-ietf-httpapi-idempotency-key-header). They are this replica's, in memory: a
// restart or another replica does not know them, and what Kafka did not confirm is not remembered. So
// the key is in the record too, for readers that must know.
type repeats struct {
	mu    sync.Mutex
	known map[repeatKey]*attempt
	order []*attempt     // oldest first
	users map[string]int // how many of each
}

// repeatKey is of one user: nobody can ask what another one's key has become.
type repeatKey struct{ user, key string }

type attempt struct {
	key    repeatKey
	of     [32]byte // what was asked with it
	at     time.Time
	done   bool
	answer published
}

func newRepeats() *repeats {
	return &repeats{known: make(map[repeatKey]*attempt), users: make(map[string]int)}
}

var (
	errRepeatPending = echo.NewHTTPError(http.StatusConflict, "a request with this Idempotency-Key is under way")
	errRepeatsFull   = echo.NewHTTPError(http.StatusServiceUnavailable, "too many requests with an Idempotency-Key are under way: nothing was written")
	errRepeatOther   = echo.NewHTTPError(http.StatusUnprocessableEntity, "this Idempotency-Key was used for another notification")
)

// begin returns the first answer to what is asked again. If there is none, the caller asks for the
// first time, and calls end.
func (r *repeats) begin(key repeatKey, of [32]byte, now time.Time) (*attempt, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forget(now)
	known := r.known[key]
	switch {
	case known == nil && !r.makeRoom(key.user):
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

// end keeps the answer, or forgets the key where there is none: then it may be tried again.
func (r *repeats) end(first *attempt, answer published, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	first.done, first.answer = ok, answer
	if !ok {
		r.remove(slices.Index(r.order, first))
	}
}

// forget lets go of what is old. What is under way stays: it would be written again. r.mu is held.
func (r *repeats) forget(now time.Time) {
	if len(r.order) == 0 || now.Sub(r.order[0].at) <= repeatWindow {
		return
	}
	r.order = slices.DeleteFunc(r.order, func(a *attempt) bool {
		old := a.done && now.Sub(a.at) > repeatWindow
		if old {
			r.uncount(a)
		}
		return old
	})
}

// makeRoom makes room for one more of the user, by the oldest answer: the user's own, if the user has
// many. It returns false where all are under way. r.mu is held.
func (r *repeats) makeRoom(user string) bool {
	own := r.users[user] >= maxUserRepeats
	if !own && len(r.order) < maxRepeats {
		return true
	}
	n := slices.IndexFunc(r.order, func(a *attempt) bool { return a.done && (!own || a.key.user == user) })
	if n < 0 {
		return false
	}
	r.remove(n)
	return true
}

// remove forgets the attempt at n. r.mu is held.
func (r *repeats) remove(n int) {
	r.uncount(r.order[n])
	r.order = slices.Delete(r.order, n, n+1)
}

func (r *repeats) uncount(a *attempt) {
	delete(r.known, a.key)
	if r.users[a.key.user]--; r.users[a.key.user] == 0 {
		delete(r.users, a.key.user)
	}
}

// idempotencyKey returns the header's value, without the quotes that the draft wants (RFC 8941,
// section 3.3.3) and many clients leave out; empty if there is none.
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
		return "", echo.NewHTTPError(http.StatusBadRequest, "Idempotency-Key: want one, of 1 to 255 printable ASCII characters without quotes and backslashes")
	}
	return key, nil
}
