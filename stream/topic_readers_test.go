package stream

import (
	"math/rand/v2"
	"testing"

	"herald/consumer"
)

// newReaders returns the readers of a topic, and n subscriptions that were added to them.
func newReaders(n int) (*topicReaders, []*subscription) {
	r := &topicReaders{topic: "all"}
	var list []*subscription
	for range n {
		list = append(list, addReader(r))
	}
	return r, list
}

func addReader(r *topicReaders) *subscription {
	s := &subscription{topics: []consumer.UserTopic{{Topic: "all"}, {Topic: "shared"}}, places: make([]int32, 2)}
	r.add(s)
	return s
}

// TestVisitWhileReadersComeAndGo removes and adds readers during a visit. Each reader that stays must be visited.
func TestVisitWhileReadersComeAndGo(t *testing.T) {
	for seed := range uint64(50) {
		random := rand.New(rand.NewPCG(seed, 1))
		r, list := newReaders(5 * readersAtOnce)
		removed, visited := make(map[*subscription]bool), make(map[*subscription]int)
		for end := r.count(); end > 0; {
			end = r.visitSome(end, func(s *subscription) {
				if removed[s] {
					t.Fatal("a reader was visited after it had been removed")
				}
				visited[s]++
			})
			for range random.IntN(readersAtOnce) {
				if i := random.IntN(len(list)); !removed[list[i]] {
					removed[list[i]] = true
					r.remove(list[i])
				}
				if random.IntN(2) == 0 {
					addReader(r)
				}
			}
		}
		for i, s := range list {
			if !removed[s] && visited[s] == 0 {
				t.Fatalf("seed %d: reader %d was left out", seed, i)
			}
		}
	}
}

// TestRemovedReadersLeaveNothing removes all readers in a random order.
func TestRemovedReadersLeaveNothing(t *testing.T) {
	r, list := newReaders(1000)
	for i, at := range rand.Perm(len(list)) {
		r.remove(list[at])
		left := make(map[*subscription]bool)
		r.visit(func(s *subscription) { left[s] = true })
		if len(left) != len(list)-i-1 || left[list[at]] {
			t.Fatalf("%d readers are left after %d removals, the removed one: %v", len(left), i+1, left[list[at]])
		}
	}
}
