package auth

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"herald/auth/remote"
)

// Run fetches the keys until ctx ends. No other goroutine fetches them.
func (j *JWKS) Run(ctx context.Context) {
	defer j.client.CloseIdleConnections()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-j.wanted:
		}
		j.startFetch()
		set, err := j.fetchKeys(ctx)
		if ctx.Err() != nil {
			return
		}
		timer.Reset(j.finishFetch(set, err))
	}
}

// Probe fetches the keys once, in place of [JWKS.Run]. It returns the error of [JWKS.Ready], and the time of the key
// set's server: zero if the server does not say.
func (j *JWKS) Probe(ctx context.Context) (time.Time, error) {
	defer j.client.CloseIdleConnections()
	j.startFetch()
	set, err := j.fetchKeys(ctx)
	j.finishFetch(set, err)
	return set.date, j.Ready()
}

// startFetch records that a fetch is under way and drops a pending request for one, which the fetch serves.
func (j *JWKS) startFetch() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.fetching = true
	select {
	case <-j.wanted:
	default:
	}
}

// finishFetch stores the result of a fetch, wakes the requests that wait for it, and returns the time until
// the next fetch. It logs an error only when the fetch before had no error or a different one.
func (j *JWKS) finishFetch(set jwkSet, err error) time.Duration {
	result := "ok"
	if err != nil {
		result = "error"
	}
	j.fetches.WithLabelValues(result).Inc()
	j.mu.Lock()
	defer j.mu.Unlock()
	next := j.cfg.Refresh
	switch {
	case err == nil:
		if j.lastErr != nil {
			j.cfg.Logger.Info("key set fetched again", "url", j.cfg.URL, "keys", len(set.keys))
		}
		noUse := checkUse(set.keys, j.cfg.Algorithms)
		if noUse != nil && (j.noUse == nil || j.noUse.Error() != noUse.Error()) {
			j.cfg.Logger.Error("key set verifies no token", "url", j.cfg.URL, "error", noUse)
		}
		j.keys, j.leftOut, j.noUse, j.fetched, j.pause = set.keys, set.leftOut, noUse, time.Now(), jwksPause
		j.usable = j.usable || noUse == nil
	case j.lastErr == nil || j.lastErr.Error() != err.Error():
		j.cfg.Logger.Error("key set fetch failed; retrying", "url", j.cfg.URL, "no_keys", j.keys == nil, "error", err)
		fallthrough
	default:
		if j.lastErr == nil {
			j.pause = time.Second / 2
		}
		j.pause = min(2*j.pause, jwksPause)
		next = j.pause
	}
	j.lastTry, j.lastErr, j.fetching = time.Now(), err, false
	close(j.ended)
	j.ended = make(chan struct{})
	return next
}

// checkUse returns an error if no key is for an allowed algorithm. Nil allows every algorithm.
func checkUse(keys fixedKeys, allowed []string) error {
	has := keys.algorithms()
	if allowed == nil || slices.ContainsFunc(withBothNames(allowed), func(a string) bool { return slices.Contains(has, a) }) {
		return nil
	}
	return fmt.Errorf("the key set has no key for --jwt-algorithms %s: its keys are for %s", strings.Join(allowed, ","), strings.Join(has, ", "))
}

// fetchKeys fetches the key set once and parses it.
func (j *JWKS) fetchKeys(ctx context.Context) (jwkSet, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, j.cfg.URL, nil)
	if err != nil {
		return jwkSet{}, err
	}
	r.Header.Set("Accept", "application/jwk-set+json, application/json")
	answer, err := j.client.Do(r)
	if err != nil {
		return jwkSet{}, remote.Explain(err) // the caller logs the URL beside the error
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return jwkSet{}, remote.ExplainStatus(answer)
	}
	text, err := remote.ReadBody(answer, maxJWKS)
	if err != nil {
		return jwkSet{}, err
	}
	set, err := parseKeySet(text)
	set.date, _ = http.ParseTime(answer.Header.Get("Date")) // zero without the header
	for id, reason := range set.leftOut {
		j.cfg.Logger.Debug("key of the key set left out", "url", j.cfg.URL, "kid", id, "error", reason)
	}
	return set, err
}
