package stream

import (
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"herald/consumer/userrate"
)

// Admission bounds the streams. A zero value is no limit.
type Admission struct {
	Streams        int     // the most streams in all
	PerUser        int     // the most streams of one user, and the most polls; a new stream takes the place of the oldest. See also [shortStream]
	PerAddress     int     // the most streams of one client address, see [ClientNetwork]
	OpensPerSecond float64 // the rate of opens, and the most opens at once
}

// beatSlots is the number of parts into which streams are divided. The parts get their heartbeats one after the
// other.
const beatSlots = 128

// A stream that ends before the age shortStream is short. In a time of shortStream, a user may have as many short streams
// as streams at once, but at least minShortStreams. After that the user's requests are refused for a moment. Otherwise
// one user could open streams as fast as the server can, and each time make Herald ask Kafka for offsets. Polls count
// in the same way, but apart from streams: a client that polls quickly does not keep the user's pages from opening
// streams.
const (
	shortStream     = 10 * time.Second
	minShortStreams = 16
)

// roster keeps the open streams, for heartbeats, limits and ending them.
type roster struct {
	heartbeat time.Duration

	mu        sync.Mutex
	limits    Admission
	count     int // the streams that were admitted and have not ended
	users     map[string][]*clientStream
	tokens    map[string][]*clientStream // by the id of the viewer's token, if it has one
	addresses map[netip.Addr]int
	opens     *rate.Limiter     // if opens are limited
	polls     map[string]int    // the number of each user's polls, if it is limited
	short     *userrate.Limiter // counts the short streams of each user that have ended
	shortPoll *userrate.Limiter // counts the short polls in the same way
	newest    int64             // when the newest stream opened, see admitted.opened
	draining  bool
	empty     chan struct{} // closed when the last stream has ended, once draining

	slots [beatSlots][]*clientStream // all open streams; each knows its slot and its place there
	turn  int                        // the slot that gets heartbeats next
	timer *time.Timer                // nil while no stream is open
}

func newRoster(limits Admission, heartbeat time.Duration) *roster {
	r := &roster{
		heartbeat: heartbeat, addresses: make(map[netip.Addr]int), empty: make(chan struct{}),
		polls: make(map[string]int), users: make(map[string][]*clientStream), tokens: make(map[string][]*clientStream),
	}
	r.short, r.shortPoll = userrate.New(0, 1), userrate.New(0, 1)
	r.setLimits(limits)
	return r
}

// setLimits changes the limits. It ends no stream.
func (r *roster) setLimits(limits Admission) {
	r.mu.Lock()
	defer r.mu.Unlock()
	was := r.limits
	r.limits = limits
	if limits.PerUser != was.PerUser {
		burst := max(limits.PerUser, minShortStreams)
		perSecond := float64(burst) / shortStream.Seconds()
		if limits.PerUser == 0 {
			perSecond = 0
		}
		r.short.SetRate(perSecond, burst)
		r.shortPoll.SetRate(perSecond, burst)
	}
	if limits.OpensPerSecond != was.OpensPerSecond {
		r.opens = rate.NewLimiter(rate.Limit(limits.OpensPerSecond), int(min(max(1, limits.OpensPerSecond), math.MaxInt32)))
	}
	if (limits.PerUser > 0) != (was.PerUser > 0) || (limits.PerAddress > 0) != (was.PerAddress > 0) {
		r.countAgainLocked()
	}
}

// countAgainLocked counts the open streams for limits that were off. It leaves out streams that were admitted and not
// added yet: while one of them is open, its user or its address may have one stream more than allowed.
func (r *roster) countAgainLocked() {
	clear(r.polls)
	clear(r.addresses)
	for _, slot := range r.slots {
		for _, f := range slot {
			if r.limits.PerUser > 0 && f.writer.poll != nil {
				r.polls[f.sub.user]++
			}
			if r.limits.PerAddress > 0 {
				r.addresses[f.admission.from]++
			}
		}
	}
}

// admit counts one more stream of the user, or returns the reason why there is no room. Each stream that it admits needs
// one leave. A poll without room is refused: it never takes the place of a stream or of another poll.
func (r *roster) admit(from netip.Addr, user string, polls bool) EndError {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := &r.limits
	switch {
	case r.draining:
		return ErrDraining
	case l.Streams > 0 && r.count >= l.Streams,
		l.PerAddress > 0 && r.addresses[from] >= l.PerAddress,
		polls && l.PerUser > 0 && r.polls[user] >= l.PerUser,
		r.shortOf(polls).Debt(user, time.Now()) > 0,
		l.OpensPerSecond > 0 && !r.opens.Allow(): // last, because Allow takes from the rate
		return ErrBusy
	}
	r.count++
	if polls && l.PerUser > 0 {
		r.polls[user]++
	}
	if l.PerAddress > 0 {
		r.addresses[from]++
	}
	return ""
}

// leave takes back one admit.
func (r *roster) leave(from netip.Addr, user string, polls bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count--
	countDown(r.addresses, from)
	if polls {
		countDown(r.polls, user)
	}
	if r.count == 0 && r.draining {
		close(r.empty)
	}
}

// countDown takes one from the count of a key. It removes the key with the last one.
func countDown[K comparable](counts map[K]int, key K) {
	if n := counts[key]; n > 1 {
		counts[key] = n - 1
	} else {
		delete(counts, key)
	}
}

// shortOf returns the limiter of short streams, or of short polls.
func (r *roster) shortOf(polls bool) *userrate.Limiter {
	if polls {
		return r.shortPoll
	}
	return r.short
}

// addStream adds a stream that was admitted. If its user has too many streams, the oldest ends.
func (r *roster) addStream(f *clientStream) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.draining {
		f.sub.end(ErrDraining)
	}
	r.newest = max(time.Now().UnixMicro(), r.newest+1)
	f.admission.opened = r.newest
	f.slot = uint8(rand.IntN(beatSlots))  //nolint:gosec // spreads them, no secret
	f.place = int32(len(r.slots[f.slot])) //nolint:gosec // the number of open streams
	r.slots[f.slot] = append(r.slots[f.slot], f)
	all := append(r.users[f.sub.user], f)
	r.users[f.sub.user] = all
	if id := f.admission.tokenID; id != "" {
		r.tokens[id] = append(r.tokens[id], f)
	}
	if r.limits.PerUser > 0 && len(all) > r.limits.PerUser {
		newer := 0 // streams that are not polls; r.polls bounds the polls
		for _, other := range slices.Backward(all) {
			if other.writer.poll != nil {
				continue
			}
			if newer++; newer > r.limits.PerUser {
				other.sub.end(ErrTooMany)
			}
		}
	}
	if r.timer == nil {
		r.timer = time.AfterFunc(r.heartbeat/beatSlots, r.requestHeartbeats)
	}
}

func (r *roster) removeStream(f *clientStream) {
	r.mu.Lock()
	defer r.mu.Unlock()
	slot := r.slots[f.slot]
	last := slot[len(slot)-1]
	slot[f.place], last.place = last, f.place
	slot[len(slot)-1] = nil
	r.slots[f.slot] = slot[:len(slot)-1]
	removeFrom(r.users, f.sub.user, f)
	if now := time.Now(); now.Sub(time.UnixMicro(f.admission.opened)) < shortStream {
		r.shortOf(f.writer.poll != nil).Charge(f.sub.user, 1, now)
	}
	if id := f.admission.tokenID; id != "" {
		removeFrom(r.tokens, id, f)
	}
	if len(r.users) == 0 {
		r.timer.Stop()
		r.timer = nil
	}
}

// removeFrom removes a stream from the list of a key, and the key with its last stream.
func removeFrom(lists map[string][]*clientStream, key string, f *clientStream) {
	left := slices.DeleteFunc(lists[key], func(other *clientStream) bool { return other == f })
	if len(left) == 0 {
		delete(lists, key)
	} else {
		lists[key] = left
	}
}

// endStreams ends the streams that match, among the streams that visit visits, and returns their number. It cuts a
// client that does not read the reason within a second.
func (r *roster) endStreams(reason EndError, match func(*clientStream) bool, visit func(func(*clientStream))) int {
	var ended []*clientStream
	visit(func(f *clientStream) {
		if match(f) {
			f.sub.end(reason)
			ended = append(ended, f)
		}
	})
	if len(ended) > 0 {
		time.AfterFunc(time.Second, func() { r.cutOpen(ended) })
	}
	return len(ended)
}

// viewer returns the viewer as [Handler.End] matches it.
func (a *admitted) viewer(user string) Viewer {
	return Viewer{User: user, TokenID: a.tokenID, IssuedAt: a.issuedAt}
}

// visitTokens calls fn for the open streams of the users and of the tokens, with the lock held. It calls fn twice
// for a stream that belongs to both.
func (r *roster) visitTokens(users, tokenIDs []string, fn func(*clientStream)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, user := range users {
		for _, f := range r.users[user] {
			fn(f)
		}
	}
	for _, id := range tokenIDs {
		for _, f := range r.tokens[id] {
			fn(f)
		}
	}
}

// visitUnlocked calls fn for the open streams of the user or, with an empty user, for all. It copies the streams of one
// slot at a time, so that it does not hold the lock while fn runs. Streams may have ended when fn gets them.
func (r *roster) visitUnlocked(user string, fn func(*clientStream)) {
	var some []*clientStream
	visit := func(copyLocked func() []*clientStream) {
		r.mu.Lock()
		some = append(some[:0], copyLocked()...)
		r.mu.Unlock()
		for _, f := range some {
			fn(f)
		}
	}
	if user != "" {
		visit(func() []*clientStream { return r.users[user] })
		return
	}
	for i := range r.slots {
		visit(func() []*clientStream { return r.slots[i] })
	}
}

// visitStreams calls fn for the open streams, with the lock held. It releases the lock after each slot, so that
// streams can open and close while it goes through a million. It may leave out streams that are added meanwhile.
func (r *roster) visitStreams(fn func(*clientStream)) {
	for i := range r.slots {
		r.visitSlot(i, fn)
	}
}

func (r *roster) visitSlot(slot int, fn func(*clientStream)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.slots[slot] {
		fn(f)
	}
}

// requestHeartbeats makes the streams of one slot write heartbeats.
func (r *roster) requestHeartbeats() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.timer == nil {
		return
	}
	for _, f := range r.slots[r.turn] {
		f.sub.requestHeartbeat()
	}
	r.turn = (r.turn + 1) % beatSlots
	r.timer.Reset(r.heartbeat / beatSlots)
}

// drainRate is the lowest rate at which a drain ends streams, in streams a second.
const drainRate = 200
