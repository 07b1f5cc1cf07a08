package consumer

import "time"

const (
	metadataInterval = 5 * time.Second        // between requests about all topics that are read
	turnInterval     = 250 * time.Millisecond // between requests about topics that are waited for
	turnTopics       = 2000                   // the most topics that are waited for in one request
)

// metadataSchedule decides which topics the next metadata request names, and when the cluster is asked.
//
// Tens of thousands of topics may not exist: one for each user who never got a record. These topics take
// turns, so that the cost for Kafka and for Herald is bounded. Up to [turnTopics] such topics are each
// found within [turnInterval]; of 10,000 topics each is found within 1.25 s. A turn took 10 ms with Apache
// Kafka 4.3.1 on a busy machine, Herald's part included (BenchmarkMissing): a twenty-fifth of the time. A
// topic costs nothing between its turns.
//
// The lock of the [topicRegistry] guards it.
type metadataSchedule struct {
	topics   map[string]*topicState // all topics
	hurry    map[string]struct{}    // topics for the next request
	turns    []string               // topics that are waited for, in the order of their turns; some may not be waited for any more
	lastTurn time.Time
	lastAll  time.Time // the last request about all topics that are read
}

// addSoon schedules the topic for the next request, or for its turn if the cluster was just asked about it.
func (d *metadataSchedule) addSoon(t *topicState, now time.Time) {
	if now.Sub(t.asked) < turnInterval {
		d.addLater(t)
		return
	}
	d.hurry[t.name] = struct{}{}
}

// addLater schedules the topic for its turn.
func (d *metadataSchedule) addLater(t *topicState) {
	if !t.queued {
		t.queued = true
		d.turns = append(d.turns, t.name)
	}
}

// takeDue returns the topics that the next request has to name. all reports that the request covers all
// topics except those that are waited for. Then the request is sent even without a topic, to see whether
// Kafka answers.
func (d *metadataSchedule) takeDue(now time.Time) (names []string, all bool) {
	take := func(t *topicState) {
		t.asked, t.queued = now, false
		names = append(names, t.name)
	}
	if all = now.Sub(d.lastAll) >= metadataInterval; all {
		d.lastAll = now
		for name, t := range d.topics {
			if _, hurry := d.hurry[name]; hurry || !t.queued {
				take(t)
			}
		}
	} else {
		for name := range d.hurry {
			if t := d.topics[name]; t != nil {
				take(t)
			}
		}
	}
	clear(d.hurry)
	if now.Sub(d.lastTurn) < turnInterval {
		return names, all
	}
	d.lastTurn = now
	for n := 0; n < turnTopics && len(d.turns) > 0; d.turns = d.turns[1:] {
		if t := d.topics[d.turns[0]]; t != nil && t.queued {
			take(t)
			n++
		}
	}
	return names, all
}

// returnUnanswered schedules again what takeDue returned, because no broker answered.
func (d *metadataSchedule) returnUnanswered(names []string, all bool) {
	for _, name := range names {
		d.hurry[name] = struct{}{}
	}
	if all {
		d.lastAll = time.Time{}
	}
}

// untilDue returns how long no request is due.
func (d *metadataSchedule) untilDue(now time.Time) time.Duration {
	if len(d.hurry) > 0 {
		return 0
	}
	next := d.lastAll.Add(metadataInterval)
	if turn := d.lastTurn.Add(turnInterval); len(d.turns) > 0 && turn.Before(next) {
		next = turn
	}
	return max(0, next.Sub(now))
}
