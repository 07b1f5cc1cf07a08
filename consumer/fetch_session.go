package consumer

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"herald/consumer/broker"
)

const (
	// quietMaxWait takes the place of fetchMaxWait for a shard that no partition was added to for
	// quietAfter. For 5,000 topics without records Apache Kafka 4.3.1 used 0.12 s of CPU a second with
	// quietMaxWait and 0.36 s with fetchMaxWait, 0.04 s of that whether the topics were read or not.
	quietMaxWait = time.Second
	quietAfter   = 5 * time.Second

	// fetchPartBytes is how much of one partition a response may hold. With a quarter of it, a
	// partition that lags far is read at half the speed.
	fetchPartBytes = 4 << 20
)

// topicIDPartition names a partition as a fetch does, by the id of its topic. With a local id ([IsLocalID]), the fetch
// has the name in place of the id.
type topicIDPartition struct {
	topicID [16]byte
	id      int32
}

// fetchSession is one incremental fetch session (KIP-227) with one broker. Its first request names all
// partitions. Later requests name only partitions whose offset moved, and responses hold only partitions
// that have news. One goroutine uses it.
type fetchSession struct {
	cluster *broker.Cluster
	options fetchOptions
	broker  int32

	id        int32
	epoch     int32
	sent      map[topicIDPartition]fetchPoint // what the broker holds for each partition
	version   int16                           // of the last response
	buf       []byte                          // memory of the last response
	other     []byte                          // memory of the response before the last, if the session fetches ahead
	ahead     bool                            // the caller may still read the last response while the next is fetched
	throttled time.Duration                   // how long a quota delays the next response
	small     int                             // how many responses in a row needed little of buf

	// See describe.
	names  map[[16]byte]string        // of the topics, by the id in topicIDPartition
	ids    map[string][16]byte        // the reverse of names; nil: not made yet
	epochs map[topicIDPartition]int32 // of the leaders
	byName bool                       // Kafka's id of a topic is not known
}

// fetchPoint is where a broker is to continue reading a partition for a session.
type fetchPoint struct {
	offset int64
	epoch  int32 // of the leader; -1: any
}

func newFetchSession(cluster *broker.Cluster, options fetchOptions, broker int32) *fetchSession {
	return &fetchSession{cluster: cluster, options: options, broker: broker}
}

// reset forgets the session, so that the next fetch begins a new one.
func (s *fetchSession) reset() { s.id, s.epoch, s.sent = 0, 0, nil }

// restart begins a new session at the next fetch. The broker answers that fetch with all partitions. The id stays: the
// broker may still have the session, and a full fetch that names it ends it.
func (s *fetchSession) restart() { s.epoch, s.sent = 0, nil }

// holds reports whether the broker has the partition in the session.
func (s *fetchSession) holds(p topicIDPartition) bool {
	_, ok := s.sent[p]
	return ok
}

// fetch asks for records of the partitions in want, from their offsets on. While there are none, the broker
// holds the request for wait. The response points into the session's memory. It is good until the next
// call or, if the session fetches ahead, until the call after that.
func (s *fetchSession) fetch(ctx context.Context, want map[topicIDPartition]int64, wait time.Duration) (*kmsg.FetchResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, wait+fetchSlack+s.throttled)
	defer cancel()
	if s.sent == nil {
		s.sent = make(map[topicIDPartition]fetchPoint, len(want))
	}
	if s.ahead {
		s.buf, s.other = s.other, s.buf
	}
	s.shrink()
	buf := s.buf // a variable of its own: a request given up may still write to it
	res, err := s.cluster.Request(ctx, s.broker, s.newRequest(want, wait), &buf)
	if err != nil {
		s.buf = nil // the request given up may still write to it
		s.restart()
		return nil, err
	}
	s.buf = buf
	fetched := res.(*kmsg.FetchResponse)
	s.throttled = throttle(fetched)
	if err := kerr.ErrorForCode(fetched.ErrorCode); err != nil {
		s.reset()
		return nil, fmt.Errorf("fetch from broker %d: %w", s.broker, err)
	}
	s.version = fetched.Version
	s.adoptNames(fetched)
	s.id = fetched.SessionID
	if s.id == 0 { // the broker has no room for a session: each fetch names all partitions
		s.reset()
		return fetched, nil
	}
	s.epoch++
	if s.epoch <= 0 {
		s.epoch = 1 // KIP-227: wraps to 1
	}
	return fetched, nil
}

// shrink frees the memory that a burst made large, once 64 responses in a row needed little of it.
func (s *fetchSession) shrink() {
	const large, patience = 256 << 10, 64
	if cap(s.buf) <= large || len(s.buf) > large {
		s.small = 0
		return
	}
	if s.small++; s.small == patience {
		s.buf, s.other, s.small = nil, nil, 0
	}
}

// newRequest returns the next fetch of the session: the partitions whose offset differs from the one the
// broker holds, and the partitions that the broker should forget. It notes in sent what the broker holds
// then.
func (s *fetchSession) newRequest(want map[topicIDPartition]int64, wait time.Duration) *kmsg.FetchRequest {
	req := s.options.newRequest(s.id, s.epoch, wait)
	if s.byName {
		req.Version = broker.FetchByName
	}
	topics := make(map[[16]byte]int)
	for p, offset := range want {
		point := fetchPoint{offset, s.epochOf(p)}
		if sent, ok := s.sent[p]; ok && sent == point {
			continue
		}
		s.sent[p] = point
		i, ok := topics[p.topicID]
		if !ok {
			i = len(req.Topics)
			topics[p.topicID] = i
			topic := kmsg.NewFetchRequestTopic()
			topic.Topic, topic.TopicID = s.names[p.topicID], p.topicID
			req.Topics = append(req.Topics, topic)
		}
		req.Topics[i].Partitions = append(req.Topics[i].Partitions, newFetchPartition(p.id, point, fetchPartBytes))
	}
	for p := range s.sent {
		if _, ok := want[p]; ok {
			continue
		}
		delete(s.sent, p)
		forgotten := kmsg.NewFetchRequestForgottenTopic()
		forgotten.Topic, forgotten.TopicID, forgotten.Partitions = s.names[p.topicID], p.topicID, []int32{p.id}
		req.ForgottenTopics = append(req.ForgottenTopics, forgotten)
	}
	return req
}
