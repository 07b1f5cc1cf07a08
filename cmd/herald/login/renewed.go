package login

import (
	"context"
	"fmt"
	"sync"
	"time"
)

const (
	// A token is renewed after renewPart of its life. Brokers end a session with its token, and connections log in
	// again after 85 to 95 % of a session (KIP-368): they must find the next token then.
	renewPart = 0.75

	// A token is not used for the last bit of its life, because a log-in takes time: lastPart of it, at most
	// longestLast.
	lastPart    = 0.05
	longestLast = 5 * time.Second

	// After a failed request for a token, the next one comes after a pause that grows from the first to the last.
	firstPause, lastPause = time.Second, 10 * time.Second
)

// renewed keeps a token and renews it before it ends. All log-ins share one request for a token, and wait for a request
// only while there is no good token. It is safe for concurrent use.
//
// A timer renews the token, if the token was used: a renewed that nobody uses any more sends one more request at most. A
// request runs in a goroutine of its own, which ends after fetchTimeout.
type renewed struct {
	fetch func(context.Context) (Token, error) // has one caller at a time

	mu      sync.Mutex
	token   Token
	since   time.Time // when token came
	end     time.Time // when to use token no longer; zero: there is none
	renewal time.Time // when to renew it
	used    bool      // whether a log-in has used token
	pending *request  // nil: no request is under way
	err     error     // of the last request; nil: it was successful
	pause   time.Duration
	retry   time.Time // earliest time of the next request after a failed one; a clock that is set back does not delay it
}

// request is a request for a token.
type request struct {
	ended chan struct{} // is closed at the end; then token and err are set
	token Token
	err   error
}

// get returns the token if it is good, and otherwise waits for a new one.
func (r *renewed) get(ctx context.Context) (Token, error) {
	token, pending, err := r.take(ctx)
	if pending == nil {
		return token, err
	}
	select {
	case <-pending.ended:
		return pending.token, pending.err
	case <-ctx.Done():
		return Token{}, fmt.Errorf("no answer yet: %w", context.Cause(ctx))
	}
}

// take returns the token, or the request to wait for, or the error of the last request if it is too early for another.
func (r *renewed) take(ctx context.Context) (Token, *request, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := wallClock()
	good := now.Before(r.end)
	if good {
		r.used = true
		if now.Before(r.renewal) {
			return r.token, nil, nil
		}
	}
	if r.pending == nil && !r.isEarlyLocked() {
		r.startLocked(context.WithoutCancel(ctx)) // the request lives on if the log-in that asks for it ends
	}
	switch {
	case good:
		return r.token, nil, nil
	case r.pending == nil:
		return Token{}, nil, r.err
	default:
		return Token{}, r.pending, nil
	}
}

// replace requests the next token if a broker refuses this one: the issuer may have other keys now, or the clock may have
// been wrong. Until the next one comes, the token stays, because other brokers may accept it. A token that came a moment
// ago stays, too: the next one would be refused for the same reason.
func (r *renewed) replace(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.token.Text == text && time.Since(r.since) >= lastPause && r.pending == nil && !r.isEarlyLocked() {
		r.startLocked(context.Background())
	}
}

// isEarlyLocked reports whether it is too early for a request after a failed one.
func (r *renewed) isEarlyLocked() bool { return r.err != nil && time.Now().Before(r.retry) }

// startLocked starts a request.
func (r *renewed) startLocked(ctx context.Context) {
	pending := &request{ended: make(chan struct{})}
	r.pending = pending
	go func() {
		limited, cancel := context.WithTimeout(ctx, fetchTimeout)
		defer cancel()
		pending.token, pending.err = r.fetch(limited)
		r.finish(ctx, pending)
	}()
}

// finish stores the outcome of a request, and schedules the next one.
func (r *renewed) finish(ctx context.Context, pending *request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer close(pending.ended)
	now := wallClock()
	r.pending, r.err = nil, pending.err
	next := now
	if pending.err != nil {
		r.pause = min(max(2*r.pause, firstPause), lastPause)
		r.retry = time.Now().Add(r.pause)
		next = now.Add(r.pause)
	} else {
		life := pending.token.Expires.Sub(now)
		r.used = !now.Before(r.end) // log-ins wait for it
		r.pause, r.token, r.since = 0, pending.token, time.Now()
		r.end = pending.token.Expires.Add(-min(time.Duration(lastPart*float64(life)), longestLast))
		r.renewal = now.Add(time.Duration(renewPart * float64(life)))
		next = r.renewal
	}
	if next.Before(r.end) {
		time.AfterFunc(next.Sub(now), func() { r.renew(ctx) })
	}
}

// renew requests the next token if a log-in has used this one.
func (r *renewed) renew(ctx context.Context) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.used && r.pending == nil && !wallClock().Before(r.renewal) {
		r.startLocked(ctx)
	}
}

// wallClock returns the time without the monotonic clock, which stands still while a machine sleeps.
func wallClock() time.Time { return time.Now().Round(0) }
