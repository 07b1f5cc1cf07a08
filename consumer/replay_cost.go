package consumer

import (
	"context"
	"time"
)

// recordCost is what a record costs in addition to the bytes of its key and value, because small records take time
// too: about 280 ns each, whatever their size.
//
// costBurst is how many seconds of the rate a user can save up.
const (
	recordCost = 100
	costBurst  = 60
)

// awaitBudget waits while passes have read more for the user than the rate allows, or until ctx ends.
func (s *scans) awaitBudget(ctx context.Context, user string) {
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
