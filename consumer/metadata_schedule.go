package consumer

import "time"

const (
	metadataInterval = 5 * time.Second        // between questions about all topics that are read
	turnInterval     = 250 * time.Millisecond // between questions about topics that are waited for
	turnTopics       = 2000                   // how many of them are asked about at a time
)

// metadataSchedule is which topics the cluster is to be asked about, and when. There may be tens of thousands that
// do not exist, one for each user who never got anything: they take turns, so that what they cost
// Kafka and us is bounded, and up to [turnTopics] of them are each found within [turnInterval]. The
// others are found that many a turn: of 10,000 each within 1.25 s. A turn took 10 ms with Apache
// Kafka 4.3.1 on a busy machine (BenchmarkMissing), our part included: a twenty-fifth of the time. To
// look at a topic costs only when it is its turn. Guarded by Consumer.mu.
type metadataSchedule struct {
	topics map[string]*topicState // all
	hurry  map[string]struct{}    // to be asked about at once
	turns  []string               // waited for, in the order of their turns; some may be so no more
	turned time.Time              // the last turn
	full   time.Time              // when all that are read were asked about
}

// soon has the topic asked about at once or, if it was just asked about, when its turn comes.
func (d *metadataSchedule) soon(t *topicState, now time.Time) {
	if now.Sub(t.asked) < turnInterval {
		d.later(t)
		return
	}
	d.hurry[t.name] = struct{}{}
}

// later has the topic asked about when its turn comes.
func (d *metadataSchedule) later(t *topicState) {
	if !t.queued {
		t.queued = true
		d.turns = append(d.turns, t.name)
	}
}

// take returns the topics that are due. In all it says whether they are all but those that are
// waited for; then the question is a sign of life even if there are none.
func (d *metadataSchedule) take(now time.Time) (names []string, all bool) {
	ask := func(t *topicState) {
		t.asked, t.queued = now, false
		names = append(names, t.name)
	}
	if all = now.Sub(d.full) >= metadataInterval; all {
		d.full = now
		for name, t := range d.topics {
			if _, hurry := d.hurry[name]; hurry || !t.queued {
				ask(t)
			}
		}
	} else {
		for name := range d.hurry {
			if t := d.topics[name]; t != nil {
				ask(t)
			}
		}
	}
	clear(d.hurry)
	if now.Sub(d.turned) < turnInterval {
		return names, all
	}
	d.turned = now
	for n := 0; n < turnTopics && len(d.turns) > 0; d.turns = d.turns[1:] {
		if t := d.topics[d.turns[0]]; t != nil && t.queued {
			ask(t)
			n++
		}
	}
	return names, all
}

// failed takes back what take returned: there was no answer.
func (d *metadataSchedule) failed(names []string, all bool) {
	for _, name := range names {
		d.hurry[name] = struct{}{}
	}
	if all {
		d.full = time.Time{}
	}
}

// wait is how long nothing will be due.
func (d *metadataSchedule) wait(now time.Time) time.Duration {
	if len(d.hurry) > 0 {
		return 0
	}
	next := d.full.Add(metadataInterval)
	if turn := d.turned.Add(turnInterval); len(d.turns) > 0 && turn.Before(next) {
		next = turn
	}
	return max(0, next.Sub(now))
}

// departure is the last Leave of a user's topic.
type departure struct {
	topic *topicState
	at    time.Time
}
