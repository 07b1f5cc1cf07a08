package consumer

import (
	"context"
	"time"
)

const (
	// recordCost is added to the bytes of a record's key and value, because small records take time too: about
	// 280 ns each, whatever their size.
	recordCost = 100
	// costBurst is how many seconds of the rate a user can save up.
	costBurst = 60
)

// waitInDebt waits while the user is in debt: passes have read more for the user than the rate allows. The end of ctx
// ends the wait.
func (s *scans) waitInDebt(ctx context.Context, user string) {
	for waits := false; ctx.Err() == nil; waits = true {
		wait := s.costs.Debt(user, time.Now())
		if wait == 0 {
			return
		}
		if !waits {
			s.metrics.delayed.Inc()
		}
		pause(ctx, wait)
	}
}

// join adds requests that have waited to the pass.
func (p *pass) join(requests []*rangeRequest) {
	for _, r := range requests {
		r.joinedAt = p.cost
	}
	p.add(requests)
}

// charge charges the request's user with the request's share of what the pass has read since the request joined.
func (p *pass) charge(r *rangeRequest) {
	p.scans.costs.Charge(r.user, int(p.cost-r.joinedAt), time.Now())
}
