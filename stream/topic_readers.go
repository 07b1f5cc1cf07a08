package stream

import "sync"

// topicReaders are the subscriptions that have a topic. A broadcast visits all of them, which takes long if there
// are many. It may not hold the hub's lock that long, because streams that open and close change the users
// under that lock, and the records for single users need it. So the readers have a lock of their own, which a
// visit releases time and again.
type topicReaders struct {
	topic string

	mu   sync.Mutex
	list []*subscription // each knows its place, see subscription.places
}

// readersAtOnce is the number of readers that a visit calls before it releases the lock.
const readersAtOnce = 256

func (r *topicReaders) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.list)
}

func (r *topicReaders) add(s *subscription) {
	r.mu.Lock()
	defer r.mu.Unlock()
	*s.placeIn(r.topic) = int32(len(r.list)) //nolint:gosec // the number of open streams
	r.list = append(r.list, s)
}

// remove removes a subscription. The last one takes its place.
func (r *topicReaders) remove(s *subscription) {
	r.mu.Lock()
	defer r.mu.Unlock()
	place, last := *s.placeIn(r.topic), len(r.list)-1
	moved := r.list[last]
	r.list[place] = moved
	*moved.placeIn(r.topic) = place
	r.list[last] = nil
	r.list = r.list[:last]
}

// visit calls fn for each subscription that is there from the beginning of the visit to its end. It may call fn
// twice for one, and it may or may not call fn for one that is added or removed meanwhile. fn must not wait.
//
// The visit begins at the end of the list. If a subscription is removed, the last one, which fn was called for,
// takes its place. In the other direction, the visit would leave out the last one.
func (r *topicReaders) visit(fn func(*subscription)) {
	for end := r.count(); end > 0; {
		end = r.visitSome(end, fn)
	}
}

// visitSome calls fn for the last ones of the subscriptions before end. It returns the place of the first of
// them.
func (r *topicReaders) visitSome(end int, fn func(*subscription)) (begin int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	end = min(end, len(r.list))
	begin = max(0, end-readersAtOnce)
	for i := end - 1; i >= begin; i-- {
		fn(r.list[i])
	}
	return begin
}
