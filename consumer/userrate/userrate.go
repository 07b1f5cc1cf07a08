// Package userrate limits the rate of each user. A user with a full bucket takes no memory.
package userrate

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Limiter has a token bucket for each user. A bucket is full at first, holds burst units, and gets perSecond units
// each second. A nil Limiter, and one of 0 units a second, sets no limit. Its methods may be called concurrently.
type Limiter struct {
	mu        sync.Mutex
	perSecond rate.Limit
	burst     int
	users     map[string]*rate.Limiter
	sweepAt   int // the number of users at which bucketLocked forgets users with a full bucket
}

const minSweep = 1024

// New returns a Limiter with buckets of at least one unit.
func New(perSecond float64, burst int) *Limiter {
	return &Limiter{perSecond: rate.Limit(perSecond), burst: max(1, burst), users: make(map[string]*rate.Limiter), sweepAt: minSweep}
}

// SetRate changes the rate and the size of the buckets. The users keep what is in their buckets, and their debts.
func (l *Limiter) SetRate(perSecond float64, burst int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.perSecond, l.burst = rate.Limit(perSecond), max(1, burst)
	if perSecond == 0 {
		clear(l.users)
	}
	for _, bucket := range l.users {
		bucket.SetLimit(l.perSecond)
		bucket.SetBurst(l.burst)
	}
}

// Take takes a unit from the user's bucket and returns 0. If the bucket has none, Take takes nothing and returns
// how long the user has to wait for a unit.
func (l *Limiter) Take(user string, now time.Time) (wait time.Duration) {
	if l == nil {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.perSecond == 0 {
		return 0
	}
	r := l.bucketLocked(user, now).ReserveN(now, 1)
	if wait = r.DelayFrom(now); wait > 0 {
		r.CancelAt(now)
	}
	return wait
}

// Charge takes units from the user's bucket, for work that is done already. It may take more than the bucket has.
// Then the user is in debt.
func (l *Limiter) Charge(user string, units int, now time.Time) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.perSecond == 0 {
		return
	}
	bucket := l.bucketLocked(user, now)
	for ; units > 0; units -= l.burst { // a bucket gives up to burst units at a time
		bucket.ReserveN(now, min(units, l.burst))
	}
}

// Debt returns how long the user must wait until the bucket has got back what [Limiter.Charge] took too much. It is 0
// for a user without debt.
func (l *Limiter) Debt(user string, now time.Time) time.Duration {
	if l == nil {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	bucket := l.users[user]
	if bucket == nil {
		return 0
	}
	return bucket.ReserveN(now, 0).DelayFrom(now)
}

func (l *Limiter) bucketLocked(user string, now time.Time) *rate.Limiter {
	bucket := l.users[user]
	if bucket == nil {
		l.sweepLocked(now)
		bucket = rate.NewLimiter(l.perSecond, l.burst)
		l.users[user] = bucket
	}
	return bucket
}

// sweepLocked forgets users with a full bucket. A user without a bucket gets a full one, so nothing changes for
// them.
func (l *Limiter) sweepLocked(now time.Time) {
	if len(l.users) < l.sweepAt {
		return
	}
	for user, bucket := range l.users {
		if bucket.TokensAt(now) >= float64(l.burst) {
			delete(l.users, user)
		}
	}
	l.sweepAt = max(minSweep, 2*len(l.users))
}
