package consumer

import (
	"context"
	"sync"
	"time"

	"herald/consumer/broker"
)

const (
	deliveredInterval = time.Second
	deliveredBatch    = 5000 // partitions in one request; Apache Kafka takes 0.15 s to commit that many

	// lastCheckAfter is the interval before the last of the checks of a committed position. Another
	// replica's commit is never under way for longer.
	lastCheckAfter = 16 * time.Second
)

// deliveredPosition is how far a partition was delivered: everything before next. The topic's id
// distinguishes topics that had the same name one after the other.
type deliveredPosition struct {
	topicID [16]byte
	next    int64
}

// deliveredCheck is a check that is planned for a committed position.
type deliveredCheck struct {
	deliveredPosition
	after time.Duration // the interval between the check before and this one
	due   time.Time
}

// deliveredPositions keeps how far users' own topics were written to their streams, as committed offsets
// of the group "<Group>.delivered". So Kafka's tools show what a user has not seen, and a client without
// an id can continue there. The group has no members, and its commits have no generation.
//
// While one replica serves all devices of a user, a committed position never moves back. Kafka has no
// commit on a condition, so replicas that commit for one user at the same time may overtake each other,
// and the lower position may come last. Each replica therefore checks its commits 1, 3, 7, 15 and
// 31 s later, and commits its position again if a lower one took its place. Until then a device may get
// records again that another device had. No device misses a record.
type deliveredPositions struct {
	cluster *broker.Cluster
	group   string
	topicID func(topic string) [16]byte // the id of the topic as it is now; zero if it is not known
	health  *groupHealth
	metrics *metrics

	mu     sync.Mutex
	dirty  map[Partition]deliveredPosition // to commit
	checks map[Partition]deliveredCheck    // committed, to check
}

func newDeliveredPositions(health *groupHealth, cluster *broker.Cluster, metrics *metrics, topicID func(topic string) [16]byte) *deliveredPositions {
	return &deliveredPositions{
		cluster: cluster,
		group:   health.group,
		topicID: topicID,
		health:  health,
		metrics: metrics,
		dirty:   make(map[Partition]deliveredPosition),
		checks:  make(map[Partition]deliveredCheck),
	}
}

// record notes that a stream was written everything before the position. It does not wait for Kafka: run
// commits the position within a second.
func (d *deliveredPositions) record(p Partition, to deliveredPosition) {
	if d.isOutdated(p, to) {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.recordLocked(p, to)
}

func (d *deliveredPositions) recordLocked(p Partition, to deliveredPosition) {
	if was := d.dirty[p]; was.topicID != to.topicID || was.next < to.next {
		d.dirty[p] = to
	}
}

// isOutdated reports that the topic may have been created again since the position was delivered. The
// position means nothing then.
func (d *deliveredPositions) isOutdated(p Partition, delivered deliveredPosition) bool {
	return d.topicID(p.Topic) != delivered.topicID
}

// list returns how far each of the partitions, given with the ids of their topics, was delivered by any
// replica to any device. A partition of which nothing was delivered is at 0. The error is what Kafka
// answered.
func (d *deliveredPositions) list(ctx context.Context, topicIDs map[Partition][16]byte) (map[Partition]int64, error) {
	positions := make(map[Partition]int64, len(topicIDs))
	d.mu.Lock()
	for p, id := range topicIDs { // before Kafka is asked: a position that is committed in between is not missed
		positions[p] = 0
		for _, known := range []deliveredPosition{d.dirty[p], d.checks[p].deliveredPosition} {
			if known.topicID == id {
				positions[p] = max(positions[p], known.next)
			}
		}
	}
	d.mu.Unlock()
	committed, err := d.fetchCommitted(ctx, positions)
	if err != nil {
		return nil, err
	}
	for p, next := range committed {
		positions[p] = max(positions[p], next)
	}
	return positions, nil
}

// run commits every second until ctx ends, and once more then.
func (d *deliveredPositions) run(ctx context.Context) {
	for ctx.Err() == nil {
		pause(ctx, deliveredInterval)
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), broker.RequestTimeout)
		if err := d.flush(last); err != nil {
			d.metrics.commits.WithLabelValues(resultError).Inc()
			d.health.recordFailure(err)
		}
		cancel()
	}
}

// flush makes the checks that are due and commits the positions that changed.
func (d *deliveredPositions) flush(ctx context.Context) error {
	if err := d.checkCommitted(ctx, time.Now()); err != nil {
		return err
	}
	for {
		batch := make(map[Partition]int64)
		taken := make(map[Partition]deliveredPosition)
		d.mu.Lock()
		for p, to := range d.dirty {
			if len(batch) == deliveredBatch {
				break
			}
			batch[p], taken[p] = to.next, to
		}
		d.mu.Unlock()
		if len(batch) == 0 {
			return nil
		}
		for p, to := range taken {
			if d.isOutdated(p, to) {
				delete(batch, p)
			}
		}
		committed, err := d.fetchCommitted(ctx, batch)
		if err == nil {
			err = d.commit(ctx, batch, committed)
		}
		if err != nil {
			return err
		}
		d.health.recordSuccess()
		d.planChecks(taken, batch)
	}
}

// planChecks takes positions out of dirty unless they moved on meanwhile, and plans the first check of
// the committed positions.
func (d *deliveredPositions) planChecks(taken map[Partition]deliveredPosition, committed map[Partition]int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for p, to := range taken {
		if d.dirty[p] == to {
			delete(d.dirty, p)
		}
		if _, ok := committed[p]; ok {
			if was := d.checks[p]; was.topicID == to.topicID {
				to.next = max(to.next, was.next) // the device may be slower than another
			}
			d.checks[p] = deliveredCheck{to, deliveredInterval, time.Now().Add(deliveredInterval)}
		}
	}
}

// checkCommitted makes the checks that are due at now. A position that another replica moved back is to be
// committed again.
func (d *deliveredPositions) checkCommitted(ctx context.Context, now time.Time) error {
	for {
		due := make(map[Partition]int64)
		d.mu.Lock()
		for p, check := range d.checks {
			if len(due) < deliveredBatch && !now.Before(check.due) {
				due[p] = check.next
			}
		}
		d.mu.Unlock()
		if len(due) == 0 {
			return nil
		}
		committed, err := d.fetchCommitted(ctx, due)
		if err != nil {
			return err
		}
		d.mu.Lock()
		for p, next := range due {
			check := d.checks[p]
			delete(d.checks, p)
			at, ok := committed[p]
			switch {
			case !ok || d.isOutdated(p, check.deliveredPosition): // Kafka forgot the offset with its topic
			case at < next:
				d.recordLocked(p, check.deliveredPosition)
			case check.after < lastCheckAfter:
				d.checks[p] = deliveredCheck{check.deliveredPosition, 2 * check.after, now.Add(2 * check.after)}
			}
		}
		d.mu.Unlock()
	}
}
