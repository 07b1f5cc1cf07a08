package auth

import (
	"context"
	"fmt"
	"time"
)

// findKeys implements [Keys]. For an unknown key it waits for a fetch, which serves all waiting requests
// together.
func (j *JWKS) findKeys(ctx context.Context, kid string) (keys []key, err error) {
	failure := awaitFetches(ctx, func() (ended <-chan struct{}) {
		keys, ended, err = j.findOrRequest(kid)
		return ended
	})
	if failure != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, failure)
	}
	return keys, err
}

// awaitFetches calls look, and calls it again after each fetch that look waits for. look returns a channel that is
// closed when that fetch has ended, or nil. awaitFetches returns an error if ctx ends, or if a fetch takes too long.
func awaitFetches(ctx context.Context, look func() (ended <-chan struct{})) error {
	ctx, cancel := context.WithTimeout(ctx, jwksTimeout+time.Second)
	defer cancel()
	for ended := look(); ended != nil; ended = look() {
		select {
		case <-ended:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// findOrRequest returns the keys for kid. If it knows none, it returns an error while the last fetch is
// recent; otherwise it requests a fetch and returns a channel that is closed when the fetch has ended.
func (j *JWKS) findOrRequest(kid string) (keys []key, ended <-chan struct{}, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	switch keys := matchingKeys(j.keys, kid); {
	case len(keys) > 0:
		return keys, nil, nil
	case !j.freshLocked():
		return nil, j.requestFetchLocked(), nil
	case j.lastErr != nil:
		return nil, nil, fmt.Errorf("%w: %w", ErrUnavailable, j.lastErr)
	}
	return nil, nil, refusedUnknownKey.because(j.leftOut[kid])
}

// fetchAgain implements [Keys]. An issuer may change a key without changing its id, and tokens without an id do not
// show that they need a newer key. fetchAgain waits for a fetch, which serves all waiting requests together, unless the
// last fetch is recent. So forged tokens cause no more fetches than tokens with unknown ids, and tokens that a key
// verifies never wait.
func (j *JWKS) fetchAgain(ctx context.Context, found time.Time) (fetched bool) {
	failure := awaitFetches(ctx, func() (ended <-chan struct{}) {
		fetched, ended = j.fetchedSince(found)
		return ended
	})
	return failure == nil && fetched
}

// fetchedSince reports whether a fetch has succeeded since the time. If none has and the last fetch is not recent, it
// requests a fetch and returns a channel that is closed when the fetch has ended.
func (j *JWKS) fetchedSince(found time.Time) (fetched bool, ended <-chan struct{}) {
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case !j.fetched.Before(found):
		return true, nil
	case j.freshLocked():
		return false, nil
	}
	return false, j.requestFetchLocked()
}

// freshLocked reports whether the last fetch, successful or not, is so recent that no token causes another one.
func (j *JWKS) freshLocked() bool { return !j.lastTry.IsZero() && time.Since(j.lastTry) < j.pause }

// requestFetchLocked requests a fetch from Run, unless one is under way, and returns a channel that is closed when the
// fetch has ended.
func (j *JWKS) requestFetchLocked() (ended <-chan struct{}) {
	if !j.fetching {
		j.fetching = true
		j.wanted <- struct{}{} // never blocks: startFetch empties the channel before finishFetch resets fetching
	}
	return j.ended
}

// matchingKeys returns the keys with the id kid and the keys without an id. An empty kid matches all keys.
func matchingKeys(keys []key, kid string) []key {
	if kid == "" {
		return keys
	}
	var some []key
	for _, k := range keys {
		if k.id == kid || k.id == "" {
			some = append(some, k)
		}
	}
	return some
}
