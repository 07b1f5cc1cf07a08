package server

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// quota bounds how much each user publishes on this replica. Its method take may be called concurrently.
type quota struct {
	rate  rate.Limit // per second; 0: no limit
	burst int

	mu      sync.Mutex
	users   map[string]*rate.Limiter
	sweepAt int // the number of users at which take forgets users with a full quota
}

const minSweep = 1024

func newQuota(perSecond float64, burst int) *quota {
	return &quota{rate: rate.Limit(perSecond), burst: burst, users: make(map[string]*rate.Limiter), sweepAt: minSweep}
}

// take takes one notification from the user's quota and returns 0. If the quota is used up, it takes
// nothing and returns how long the user has to wait.
func (q *quota) take(user string, now time.Time) time.Duration {
	if q.rate == 0 {
		return 0
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	l := q.users[user]
	if l == nil {
		q.sweepLocked(now)
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

// sweepLocked forgets users with a full quota. A user without an entry has a full quota too, so nothing
// changes for them.
func (q *quota) sweepLocked(now time.Time) {
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
