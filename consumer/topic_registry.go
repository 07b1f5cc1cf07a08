package consumer

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// userLinger is how long a user's own topic is read after the last Leave, for a client that reconnects.
const userLinger = 10 * time.Second

// topicRegistry knows the topics that the replica reads or waits for: what the cluster reports about each
// topic, which users' streams need it, and when to ask the cluster about it again. It is safe for
// concurrent use.
type topicRegistry struct {
	routes     routes
	always     map[string]*Route // the topics that are read whether or not a user is there
	homes      map[string]*Homes // of those topics whose routes name a partitioner
	log        *slog.Logger
	userLinger time.Duration // userLinger, except in tests
	wake       chan struct{} // wakes the topicPoller

	mu         sync.Mutex
	states     map[string]*topicState
	schedule   metadataSchedule
	departures []departure // the oldest first
	localIDs   uint64      // how many local ids were given
}

// departure is the last Leave of a user's own topic.
type departure struct {
	topic *topicState
	at    time.Time
}

func newTopicRegistry(rs routes, log *slog.Logger, countMisplaced func()) *topicRegistry {
	t := &topicRegistry{
		routes:     rs,
		always:     make(map[string]*Route),
		homes:      make(map[string]*Homes),
		log:        log,
		userLinger: userLinger,
		wake:       make(chan struct{}, 1),
		states:     make(map[string]*topicState),
	}
	t.schedule = metadataSchedule{topics: t.states, hurry: make(map[string]struct{})}
	for _, r := range rs.static() {
		t.always[r.Topic] = r
		t.states[r.Topic] = newTopicState(r.Topic, r)
		if r.Partitioner != "" {
			h := NewHomes(r.Topic, r.Partitioner)
			h.log, h.misplaced = log, countMisplaced
			t.homes[r.Topic] = h
		}
	}
	return t
}

// checkStarted returns an error that names a topic that must be read always and has never been read. A topic that
// was missing when the cluster was first asked does not count.
func (t *topicRegistry) checkStarted() error {
	return t.checkAlways(func(state *topicState) bool { return state.known })
}

// checkReady is checkStarted for the topics and partitions of the present: it names also a topic that has appeared or
// has got partitions, as long as not all of them are read.
func (t *topicRegistry) checkReady() error {
	return t.checkAlways(func(state *topicState) bool { return state.known && !state.partial })
}

// checkAlways returns an error that names a topic that must be read always and that isRead refuses.
func (t *topicRegistry) checkAlways(isRead func(*topicState) bool) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for name := range t.always {
		if state := t.states[name]; !isRead(state) {
			return fmt.Errorf("topic %s is not read yet%s", name, state.reasonLocked())
		}
	}
	return nil
}

// userTopics returns the topics of user's streams, sorted by name. With an empty user, and with a user whose
// name cannot be a part of a topic's name, it returns the topics that all users share.
func (t *topicRegistry) userTopics(user string) []UserTopic {
	own, _ := t.routes.userTopics(user)                  // none with an error
	list := make([]UserTopic, 0, len(t.always)+len(own)) // not more: the stream keeps the list
	for name, route := range t.always {
		list = append(list, UserTopic{Topic: name, Broadcast: route.Kind == Broadcast, Claim: route.Claim, Homes: t.homes[name]})
	}
	for name := range own {
		list = append(list, UserTopic{Topic: name, Own: true})
	}
	slices.SortFunc(list, func(a, b UserTopic) int { return cmp.Compare(a.Topic, b.Topic) })
	return list
}

// join implements [Consumer.Join].
func (t *topicRegistry) join(ctx context.Context, user string) ([]UserTopic, error) {
	own, err := t.routes.userTopics(user)
	if err != nil {
		return nil, err
	}
	for _, state := range t.addUser(own) {
		select {
		case <-state.settled:
		case <-ctx.Done():
			t.removeUser(own)
			return nil, fmt.Errorf("topic %s: %w", state.name, context.Cause(ctx))
		}
	}
	list := t.userTopics(user)
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.DeleteFunc(list, func(topic UserTopic) bool { return !t.states[topic.Topic].known }), nil
}

// addUser counts a Join for the user's own topics. It returns these and the topics that are always read.
func (t *topicRegistry) addUser(own map[string]*Route) []*topicState {
	defer t.poke()
	t.mu.Lock()
	defer t.mu.Unlock()
	list := make([]*topicState, 0, len(own)+len(t.always))
	for name, route := range own {
		state := t.states[name]
		if state == nil {
			state = newTopicState(name, route)
			t.states[name] = state
			t.schedule.addSoon(state, time.Now())
		}
		state.users++
		list = append(list, state)
	}
	for name := range t.always {
		list = append(list, t.states[name])
	}
	return list
}

// removeUser takes back one Join for the user's own topics.
func (t *topicRegistry) removeUser(own map[string]*Route) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for name := range own {
		state := t.states[name]
		if state.users--; state.users == 0 {
			state.lastLeft = time.Now()
			t.departures = append(t.departures, departure{state, state.lastLeft})
		}
	}
}

// removeDeparted forgets the topics of users who left longer than userLinger ago and did not come back. It
// returns their names and numbers of partitions.
func (t *topicRegistry) removeDeparted() map[string]int {
	departed := make(map[string]int)
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.departures) > 0 && time.Since(t.departures[0].at) > t.userLinger {
		d := t.departures[0]
		t.departures = t.departures[1:]
		state := d.topic
		if state.users == 0 && state.lastLeft.Equal(d.at) {
			delete(t.states, state.name)
			departed[state.name] = len(state.leaders)
		}
	}
	return departed
}

// routeOf returns the route of a topic; nil if the topic is neither read nor waited for.
func (t *topicRegistry) routeOf(name string) *Route {
	t.mu.Lock()
	defer t.mu.Unlock()
	if state := t.states[name]; state != nil {
		return state.route
	}
	return nil
}

// leaderOf returns the broker that leads a partition, and the id of its topic.
func (t *topicRegistry) leaderOf(p Partition) (broker int32, topicID [16]byte, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	state, err := t.stateOfLocked(p)
	if err != nil {
		return -1, topicID, err
	}
	return state.leaders[p.ID], state.id, nil
}

// stateOfLocked returns the state of the partition's topic. The error is for a partition that is not known or has no
// leader.
func (t *topicRegistry) stateOfLocked(p Partition) (*topicState, error) {
	state := t.states[p.Topic]
	if state == nil || int(p.ID) >= len(state.leaders) || p.ID < 0 {
		return nil, fmt.Errorf("partition %s is not known", p)
	}
	if state.leaders[p.ID] < 0 {
		return nil, fmt.Errorf("partition %s has no leader", p)
	}
	return state, nil
}

// idOf returns the id of a topic; zero if the topic is not known.
func (t *topicRegistry) idOf(name string) (id [16]byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if state := t.states[name]; state != nil {
		id = state.id
	}
	return id
}

// partitionsOf returns the partitions of the named topics that exist, each with the id of its topic.
func (t *topicRegistry) partitionsOf(names iter.Seq[string]) map[Partition][16]byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	topicIDs := make(map[Partition][16]byte)
	for name := range names {
		if state := t.states[name]; state != nil && !state.missing {
			for i := range state.leaders {
				topicIDs[Partition{Topic: name, ID: int32(i)}] = state.id
			}
		}
	}
	return topicIDs
}

// commitTopics returns the topics whose offsets the consumer group commits, with their numbers of
// partitions: the topics that are always read, exist and may be read. If one topic did not exist, the group's
// leader, as kafka-go implements it, would assign nothing at all. A commit for a topic that may not be read
// would fail.
func (t *topicRegistry) commitTopics() map[string]int {
	t.mu.Lock()
	defer t.mu.Unlock()
	topics := make(map[string]int)
	for name := range t.always {
		if state := t.states[name]; len(state.leaders) > 0 && !state.missing && !state.denied {
			topics[name] = len(state.leaders)
		}
	}
	return topics
}

// countAlwaysRead returns the number of partitions of the topics that are always read.
func (t *topicRegistry) countAlwaysRead() (count int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for name := range t.always {
		count += len(t.states[name].leaders)
	}
	return count
}

// isPresent reports whether the topic is still read or waited for. A topic that was left and joined again has
// another state.
func (t *topicRegistry) isPresent(state *topicState) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.states[state.name] == state
}

// settle ends the wait of all Joins for the topic, which is read from now on.
func (t *topicRegistry) settle(state *topicState) {
	t.mu.Lock()
	defer t.mu.Unlock()
	state.partial = false
	state.settleLocked(true)
}

// doubt schedules a metadata request for the topic soon, because the metadata may be outdated.
func (t *topicRegistry) doubt(name string) {
	t.mu.Lock()
	if state := t.states[name]; state != nil {
		t.schedule.addSoon(state, time.Now())
	}
	t.mu.Unlock()
	t.poke()
}

// askLater schedules a metadata request for the topic when its turn comes. err says why not all of its partitions
// have started.
func (t *topicRegistry) askLater(state *topicState, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	state.unread = err
	t.schedule.addLater(state)
}

// poke wakes the topicPoller.
func (t *topicRegistry) poke() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// denyLocked notes that an access control list forbids reading the topic. It logs that once, not for each
// partition.
func (t *topicRegistry) denyLocked(state *topicState, err error) {
	if !state.denied {
		state.denied = true
		t.log.Error("topic may not be read; retrying", "topic", state.name, "error", err)
	}
}

// deny notes that an access control list forbids reading the topic.
func (t *topicRegistry) deny(name string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if state := t.states[name]; state != nil {
		t.denyLocked(state, err)
	}
}

// allow notes that the topic is read again.
func (t *topicRegistry) allow(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if state := t.states[name]; state != nil && state.denied {
		state.denied = false
		t.log.Info("topic may be read again", "topic", name)
	}
}

// isDenied reports whether an access control list forbids reading the topic.
func (t *topicRegistry) isDenied(name string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	state := t.states[name]
	return state != nil && state.denied
}
