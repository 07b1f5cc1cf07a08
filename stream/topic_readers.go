package stream

import "sync"

// readerSet is a set of subscriptions that get the same records. A record for all of them visits each, which takes long if
// there are many. It may not hold the hub's lock that long, because streams that open and close change the users under
// that lock, and the records for single users need it. So the readers have a lock of their own, which a visit releases
// time and again.
type readerSet struct {
	mu   sync.Mutex
	list []*subscription // each knows its place
}

// topicReaders are the subscriptions that have a topic. A broadcast visits them.
type topicReaders struct {
	topic string
	readerSet
}

func (r *topicReaders) add(s *subscription) { r.readerSet.add(s, s.placeIn(r.topic)) }

// remove removes a subscription. It does nothing if the subscription is not there.
func (r *topicReaders) remove(s *subscription) {
	r.readerSet.remove(s, func(s *subscription) *int32 { return s.placeIn(r.topic) })
}

// readersAtOnce is the number of readers that a visit calls before it releases the lock.
const readersAtOnce = 256

func (r *readerSet) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.list)
}

// add adds a subscription and sets its place, which mu guards.
func (r *readerSet) add(s *subscription, place *int32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	*place = int32(len(r.list)) //nolint:gosec // the number of open streams
	r.list = append(r.list, s)
}

// remove removes a subscription. The last one takes its place. placeOf returns where a subscription keeps its place.
// remove does nothing if the subscription is not there.
func (r *readerSet) remove(s *subscription, placeOf func(*subscription) *int32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	place, last := *placeOf(s), len(r.list)-1
	if int(place) > last || r.list[place] != s {
		return
	}
	moved := r.list[last]
	r.list[place] = moved
	*placeOf(moved) = place
	r.list[last] = nil
	r.list = r.list[:last]
}

// visit calls fn for each subscription that is there from the beginning of the visit to its end. It may call fn
// twice for one, and it may or may not call fn for one that is added or removed meanwhile. fn must not wait.
//
// The visit begins at the end of the list. If a subscription is removed, the last one, which fn was called for,
// takes its place. In the other direction, the visit would leave out the last one.
func (r *readerSet) visit(fn func(*subscription)) {
	for end := r.count(); end > 0; {
		end = r.visitSome(end, fn)
	}
}

// visitSome calls fn for the last ones of the subscriptions before end. It returns the place of the first of
// them.
func (r *readerSet) visitSome(end int, fn func(*subscription)) (begin int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	end = min(end, len(r.list))
	begin = max(0, end-readersAtOnce)
	for i := end - 1; i >= begin; i-- {
		fn(r.list[i])
	}
	return begin
}
