package login

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// endpointOf returns tokens that live as long, and an endpoint that takes a time to answer and fails while down is set.
func endpointOf(life, takes time.Duration, down *atomic.Bool) (r *renewed, requests *atomic.Int64) {
	requests = new(atomic.Int64)
	var under atomic.Int64
	return &renewed{fetch: func(ctx context.Context) (Token, error) {
		if under.Add(1) > 1 {
			panic("two requests at a time")
		}
		defer under.Add(-1)
		n := requests.Add(1)
		select {
		case <-time.After(takes):
		case <-ctx.Done():
			return Token{}, ctx.Err()
		}
		if down != nil && down.Load() {
			return Token{}, errors.New("down")
		}
		return Token{string(rune('a' + n - 1)), time.Now().Add(life)}, nil
	}}, requests
}

// TestOneRequestForAll logs in on many connections at once. They share one request.
func TestOneRequestForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, requests := endpointOf(time.Minute, time.Second, nil)
		var wait sync.WaitGroup
		for range 100 {
			wait.Go(func() {
				if token, err := r.get(t.Context()); token.Text != "a" || err != nil {
					t.Errorf("got %q, %v", token.Text, err)
				}
			})
		}
		wait.Wait()
		if requests.Load() != 1 {
			t.Errorf("%d requests, want 1", requests.Load())
		}
	})
}

// TestRenewal logs in each second for ten lives of a token. No log-in may wait after the first, or get a token that has
// less than a tenth of its life left.
func TestRenewal(t *testing.T) {
	for _, life := range []time.Duration{4 * time.Second, time.Minute, time.Hour} {
		t.Run(life.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, requests := endpointOf(life, min(life/20, fetchTimeout/2), nil)
				for i := range 100 {
					began := time.Now()
					token, err := r.get(t.Context())
					if err != nil || i > 0 && time.Since(began) > 0 {
						t.Fatalf("log-in %d waits %v: %v", i, time.Since(began), err)
					}
					if left := time.Until(token.Expires); left < life/10 {
						t.Errorf("log-in %d gets a token with %v left of %v", i, left, life)
					}
					time.Sleep(life / 10)
				}
				if n := requests.Load(); n < 10 || n > 15 {
					t.Errorf("%d requests in 10 lives", n)
				}
			})
		})
	}
}

// TestUnusedTokenIsNotRenewed uses a token once. It is renewed once, and the next log-in gets a new one.
func TestUnusedTokenIsNotRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, requests := endpointOf(time.Minute, time.Second, nil)
		_, _ = r.get(t.Context())
		time.Sleep(time.Hour)
		if n := requests.Load(); n != 2 {
			t.Errorf("%d requests for an unused token, want 2", n)
		}
		if token, err := r.get(t.Context()); token.Text != "c" || err != nil {
			t.Errorf("after an hour: %q, %v", token.Text, err)
		}
	})
}

// TestEndpointDown takes the endpoint away, which then answers after a while or never. A log-in must not wait for it
// while the token is good, must fail soon after that, and must succeed soon after the endpoint is back.
func TestEndpointDown(t *testing.T) {
	for name, takes := range map[string]time.Duration{"refuses": 0, "slow": 3 * time.Second, "silent": time.Hour} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var down atomic.Bool
				var delay atomic.Int64
				first, requests := endpointOf(time.Minute, 0, &down)
				fetch := first.fetch
				first.fetch = func(ctx context.Context) (Token, error) {
					select {
					case <-time.After(time.Duration(delay.Load())):
					case <-ctx.Done():
						return Token{}, ctx.Err()
					}
					return fetch(ctx)
				}
				if _, err := first.get(t.Context()); err != nil {
					t.Fatal(err)
				}
				down.Store(true)
				delay.Store(int64(takes))
				for began := time.Now(); time.Since(began) < 56*time.Second; time.Sleep(time.Second) {
					asked := time.Now()
					if _, err := first.get(t.Context()); err != nil || time.Since(asked) > 0 {
						t.Fatalf("after %v: waits %v, %v", asked.Sub(began), time.Since(asked), err)
					}
				}
				time.Sleep(2 * time.Second)
				for range 20 {
					asked := time.Now()
					ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
					_, err := first.get(ctx)
					cancel()
					if err == nil || time.Since(asked) > 5*time.Second {
						t.Fatalf("with an expired token: waits %v, %v", time.Since(asked), err)
					}
					time.Sleep(time.Second)
				}
				if n := requests.Load(); n > 12 {
					t.Errorf("%d requests to an endpoint that is down", n)
				}
				down.Store(false)
				delay.Store(0)
				time.Sleep(lastPause + fetchTimeout)
				if _, err := first.get(t.Context()); err != nil {
					t.Errorf("the endpoint is back: %v", err)
				}
			})
		})
	}
}

// TestLogInGivesUp ends a log-in that waits. The request goes on for the next one.
func TestLogInGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, requests := endpointOf(time.Minute, 2*time.Second, nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := r.get(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if token, err := r.get(t.Context()); token.Text != "a" || err != nil || requests.Load() != 1 {
			t.Errorf("the next log-in gets %q, %v after %d requests", token.Text, err, requests.Load())
		}
	})
}
