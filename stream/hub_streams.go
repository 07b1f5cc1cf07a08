package stream

import (
	"slices"

	"herald/consumer"
)

// addSubscription makes the hub queue records for a subscription.
func (h *Hub) addSubscription(s *subscription) {
	s.places = make([]int32, len(s.topics))
	h.mu.Lock()
	defer h.mu.Unlock()
	if slices.Equal(s.topics, h.common) {
		s.topics = h.common // in one place for all streams: less memory, and it stays in the processor's cache
	}
	h.common = s.topics
	s.older, h.users[s.user] = h.users[s.user], s
	h.addMemberLocked(s)
	for i := range s.topics {
		h.ensureTopicLocked(s.topics[i].Topic).readers.add(s)
	}
}

// removeSubscription removes a subscription. It does nothing if the hub does not have the subscription.
func (h *Hub) removeSubscription(s *subscription) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.places == nil {
		return
	}
	h.removeMemberLocked(s)
	for i := range s.topics {
		name := s.topics[i].Topic
		h.topics[name].readers.remove(s)
		h.forgetTopicIfUnusedLocked(name)
	}
	if left := h.users[s.user].without(s); left != nil {
		h.users[s.user] = left
	} else {
		delete(h.users, s.user)
	}
	s.places = nil
}

// addMemberLocked adds a subscription to the readers of its values.
func (h *Hub) addMemberLocked(s *subscription) {
	if s.members == nil {
		return
	}
	for i := range *s.members {
		m := &(*s.members)[i]
		r := h.values[m.claimValue]
		if r == nil {
			r = new(readerSet)
			h.values[m.claimValue] = r
		}
		r.add(s, &m.place)
	}
}

// removeMemberLocked removes a subscription from the readers of its values, and forgets values that have no readers left.
func (h *Hub) removeMemberLocked(s *subscription) {
	if s.members == nil {
		return
	}
	for i := range *s.members {
		v := (*s.members)[i].claimValue
		r := h.values[v]
		if r == nil {
			continue
		}
		r.remove(s, func(s *subscription) *int32 { return s.members.placeOf(v) })
		if r.count() == 0 {
			delete(h.values, v)
		}
	}
}

// readersOf returns the subscriptions that get a record of the topic: all that have the topic, or the subscriptions
// whose viewers have the value of the claim that the record is for. It returns nil if there are none.
func (h *Hub) readersOf(t *hubTopic, r *consumer.Record) *readerSet {
	if r.Broadcast {
		return &t.readers.readerSet
	}
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.values[claimValue{r.Claim, string(r.User)}]
}
