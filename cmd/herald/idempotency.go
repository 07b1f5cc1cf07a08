package main

import (
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/labstack/echo/v4"
)

const (
	repeatWindow = 10 * time.Minute
	maxRepeats   = 10_000 // keys that are remembered
	maxRepeatKey = 255    // bytes
)

// repeats remember what came of notifications with a key, so that one that is sent again is not
// written again (draft-ietf-httpapi-idempotency-key-header). They are this replica's, in memory: a
// restart or another replica does not know them, and what Kafka did not confirm is not remembered. So
// the key is in the record too, for readers that must know.
type repeats struct {
	mu    sync.Mutex
	known map[repeatKey]*attempt
	order []*attempt // oldest first
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

func newRepeats() *repeats { return &repeats{known: make(map[repeatKey]*attempt)} }

var (
	errRepeatPending = echo.NewHTTPError(http.StatusConflict, "a request with this Idempotency-Key is under way")
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
	case known == nil:
		first := &attempt{key: key, of: of, at: now}
		r.known[key] = first
		r.order = append(r.order, first)
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
	if !ok && r.known[first.key] == first {
		delete(r.known, first.key)
	}
}

// forget makes room for one more. r.mu is held.
func (r *repeats) forget(now time.Time) {
	n := 0
	for n < len(r.order) && (len(r.order)-n >= maxRepeats || now.Sub(r.order[n].at) > repeatWindow) {
		if old := r.order[n]; r.known[old.key] == old {
			delete(r.known, old.key)
		}
		n++
	}
	clear(r.order[:n])
	r.order = r.order[n:]
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
