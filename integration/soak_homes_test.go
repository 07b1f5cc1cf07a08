package integration

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// homes is a topic whose route names its producers' partitioner. It has a producer for each number of partitions
// that the topic has had, because a producer that learns late of a new partition keeps its old choice.
type homes struct {
	topic string
	count int
}

// homeOf returns the lane of the partition where Kafka's partitioner puts the user's records if the topic has
// count partitions. It adds the lane to the user's lanes.
func (s *soak) homeOf(user string, count int) *lane {
	r := kgo.Record{Topic: s.homes.topic, Key: []byte(user)}
	p := int32(kgo.StickyKeyPartitioner(nil).ForTopic(r.Topic).Partition(&r, count))
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.lanes {
		if l.topic == r.Topic && l.partition == p {
			if !l.of(user) {
				l.keys = append(l.keys, user)
			}
			return l
		}
	}
	l := &lane{name: fmt.Sprint("homes/", p), topic: r.Topic, partition: p, keys: []string{user}}
	s.lanes = append(s.lanes, l)
	return l
}

// settle starts a producer that knows count partitions.
func (s *soak) settle(count int) {
	s.homes.count = count
	for _, user := range s.users {
		s.homeOf(user, count) // before stop, because no lane may be added after stop
	}
	producer := s.c.newProducer(s.t, s.homes.topic, int32(count-1))
	s.producers.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-s.stop:
				return
			case <-time.After(rand.N(10 * time.Millisecond)):
				user := s.users[n%len(s.users)]
				s.put(s.homeOf(user, count), producer, user, fmt.Sprintf("%d-%d", count, n))
			}
		}
	})
}

// grow adds a partition if each client has read from its newest home partition. From then on, the client's id names
// this partition, and Herald promises the client the records of all its home partitions.
func (s *soak) grow(clients []*soakClient) {
	for _, c := range clients {
		if !c.knows(s.homeOf(c.user, s.homes.count)) {
			return
		}
	}
	s.addPartitionTo(s.homes.topic, s.homes.count)
	s.settle(s.homes.count + 1)
	s.happened("home partition added")
}

// endHomes writes the last values. It is called after the producers have ended.
func (s *soak) endHomes() {
	for _, l := range s.lanes {
		if l.topic == s.homes.topic {
			for _, user := range l.keys {
				s.put(l, s.c.producer, user, last)
			}
		}
	}
}
