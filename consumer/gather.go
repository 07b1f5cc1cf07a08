package consumer

import (
	"math"
	"time"
)

// gathering is a zone's wait for the other clients of a storm. It ends when a pass begins with all requests. It
// continues during a pass that serves only new records, see [pass.gather].
type gathering struct {
	begun   time.Time     // zero: the zone does not wait
	took    time.Duration // how long the last pass took
	quiet   time.Duration // the wait ends when count has not changed for this long
	limit   time.Duration // the wait ends after this time at the latest
	count   int           // how many requests want records that a pass has read already
	changed time.Time     // when count last changed
}

// gather waits for the other clients of a storm if the next pass would read records again. If memory holds these
// records, it rests once, see [cachedRest]. Otherwise it waits until no request arrives any more, or until the limit, see
// [gatherFactor]. If some requests want only new records, which no pass has read yet, it then begins a pass for them alone
// and returns. So these requests wait for calm at most.
func (p *pass) gather() {
	g := &p.gathering
	if g.begun.IsZero() {
		g.begun = time.Now()
		g.took = min(g.begun.Sub(p.begun), p.scans.patience)
		g.quiet = max(p.scans.calm, g.took)
		g.limit = min(max(p.scans.calm, gatherFactor*g.took), p.scans.patience)
	}
	for ; p.ctx.Err() == nil && time.Since(g.begun) < g.limit; pause(p.ctx, min(p.scans.calm, g.limit-time.Since(g.begun))) {
		p.putBack()
		count, first := p.scans.waiters.countBefore(p.zone, p.high)
		if count == 0 {
			return // the next pass takes all requests
		}
		if p.isCached(first) {
			pause(p.ctx, min(cachedRest*g.took, p.scans.calm))
			return
		}
		if p.take(p.high, math.MaxInt64); len(p.requests) > 0 {
			p.begin()
			return
		}
		if count != g.count {
			g.count, g.changed = count, time.Now()
		}
		if time.Since(g.changed) >= g.quiet {
			return
		}
	}
}

// isCached reports whether memory holds all records from the offset to high that passes have read.
func (p *pass) isCached(offset int64) bool {
	for offset = max(offset, p.low); offset < p.high; {
		k := p.chunks.cache.findChunk(p.logID, offset)
		if k == nil {
			return false
		}
		offset = k.next
	}
	return true
}
