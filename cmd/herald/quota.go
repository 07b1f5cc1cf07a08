package main

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// quota is how much each user may publish on this replica.
type quota struct {
	rate  rate.Limit // a second; 0: no limit
	burst int

	mu      sync.Mutex
	users   map[string]*rate.Limiter
	sweepAt int // users, at which those are forgotten who have all of their quota
}

const minSweep = 1024

func newQuota(perSecond float64, burst int) *quota {
	return &quota{rate: rate.Limit(perSecond), burst: burst, users: make(map[string]*rate.Limiter), sweepAt: minSweep}
}

// take returns how long the user has to wait, which takes nothing.
func (q *quota) take(user string, now time.Time) time.Duration {
	if q.rate == 0 {
		return 0
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	l := q.users[user]
	if l == nil {
		q.sweep(now)
		l = rate.NewLimiter(q.rate, q.burst)
		q.users[user] = l
	}
	r := l.ReserveN(now, 1)
	wait := r.DelayFrom(now)
	if wait > 0 {
		r.CancelAt(now)
	}
	return wait
}

// sweep forgets whom it makes no difference to. q.mu is held.
func (q *quota) sweep(now time.Time) {
	if len(q.users) < q.sweepAt {
		return
	}
	for user, l := range q.users {
		if l.TokensAt(now) >= float64(q.burst) {
			delete(q.users, user)
		}
	}
	q.sweepAt = max(minSweep, 2*len(q.users))
}
