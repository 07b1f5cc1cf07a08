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
	fetchMaxWait = 250 * time.Millisecond

	// quietMaxWait is for a shard that no partition was added to for quietAfter. For 5,000 topics
	// without records Apache Kafka 4.3.1 used 0.12 s of CPU a second with it and 0.36 s with
	// fetchMaxWait, 0.04 s of that whether they were read or not.
	quietMaxWait = time.Second
	quietAfter   = 5 * time.Second

	fetchSlack     = 10 * time.Second // what a broker may take beyond its wait
	fetchPartBytes = 4 << 20          // of one partition in a response; a quarter of it halves the speed of one that is behind
)

// fetchRequest is what all our fetches have in common.
func (c *Consumer) fetchRequest(sessionID, epoch int32, wait time.Duration) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.Version = broker.FetchVersion
	req.ReplicaID = -1
	req.MaxWaitMillis = int32(wait / time.Millisecond) //nolint:gosec // a second at most
	req.MinBytes = 1
	req.MaxBytes = c.cfg.FetchMaxBytes
	req.IsolationLevel = broker.ReadCommitted
	req.SessionID = sessionID
	req.SessionEpoch = epoch
	req.Rack = c.cfg.Rack
	return req
}

func fetchPartition(id int32, offset int64, bytes int32) kmsg.FetchRequestTopicPartition {
	p := kmsg.NewFetchRequestTopicPartition()
	p.Partition = id
	p.CurrentLeaderEpoch = -1
	p.FetchOffset = offset
	p.LogStartOffset = -1
	p.PartitionMaxBytes = bytes
	return p
}

// place is a partition as a fetch names it.
type place struct {
	topic [16]byte
	id    int32
}

// session is one incremental fetch session (KIP-227) with one broker: after the first request only
// partitions whose offset moved are named, and only partitions with news are answered. It is used
// by one goroutine.
type session struct {
	consumer *Consumer
	broker   int32

	id        int32
	epoch     int32
	sent      map[place]int64 // the offset the broker holds for each partition
	buf       []byte          // of the last answer
	other     []byte          // of the one before, if the session fetches ahead
	ahead     bool            // the last answer may still be read when the next is fetched
	throttled time.Duration   // by which a quota delays the next answer
	small     int             // how many responses in a row needed little of buf
}

// throttle is how long a broker will not read our next request because of a quota (KIP-219). The
// answer itself has no records then.
func throttle(res *kmsg.FetchResponse) time.Duration {
	return time.Duration(max(0, res.ThrottleMillis)) * time.Millisecond
}

// reset forgets the session, so that the next fetch begins a new one.
func (s *session) reset() { s.id, s.epoch, s.sent = 0, 0, nil }

// fetch asks for want and has the broker wait for news so long. What it returns points into the session's
// buffer until the next call or, if the session fetches ahead, the next but one.
func (s *session) fetch(ctx context.Context, want map[place]int64, wait time.Duration) (*kmsg.FetchResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, wait+fetchSlack+s.throttled)
	defer cancel()
	if s.sent == nil {
		s.sent = make(map[place]int64, len(want))
	}
	if s.ahead {
		s.buf, s.other = s.other, s.buf
	}
	s.shrink()
	buf := s.buf // a variable of its own: an abandoned request goes on using it
	res, err := s.consumer.cluster.Request(ctx, s.broker, s.request(want, wait), &buf)
	if err != nil {
		s.buf = nil              // may still be written to
		s.epoch, s.sent = 0, nil // a full fetch ends the session that it names, which the broker may still have
		return nil, err
	}
	s.buf = buf
	fetched := res.(*kmsg.FetchResponse)
	s.throttled = throttle(fetched)
	if err := kerr.ErrorForCode(fetched.ErrorCode); err != nil {
		s.reset()
		return nil, fmt.Errorf("fetch from broker %d: %w", s.broker, err)
	}
	s.id = fetched.SessionID
	if s.id == 0 { // the broker keeps no session for us: every fetch names all
		s.reset()
		return fetched, nil
	}
	s.epoch++
	if s.epoch <= 0 {
		s.epoch = 1 // KIP-227: wraps to 1
	}
	return fetched, nil
}

// shrink lets go of a buffer that a burst has made large.
func (s *session) shrink() {
	const large, patience = 256 << 10, 64
	if cap(s.buf) <= large || len(s.buf) > large {
		s.small = 0
		return
	}
	if s.small++; s.small == patience {
		s.buf, s.other, s.small = nil, nil, 0
	}
}

func (s *session) request(want map[place]int64, wait time.Duration) *kmsg.FetchRequest {
	req := s.consumer.fetchRequest(s.id, s.epoch, wait)
	topics := make(map[[16]byte]int)
	for p, offset := range want {
		if sent, ok := s.sent[p]; ok && sent == offset {
			continue
		}
		s.sent[p] = offset
		i, ok := topics[p.topic]
		if !ok {
			i = len(req.Topics)
			topics[p.topic] = i
			topic := kmsg.NewFetchRequestTopic()
			topic.TopicID = p.topic
			req.Topics = append(req.Topics, topic)
		}
		req.Topics[i].Partitions = append(req.Topics[i].Partitions, fetchPartition(p.id, offset, fetchPartBytes))
	}
	for p := range s.sent {
		if _, ok := want[p]; ok {
			continue
		}
		delete(s.sent, p)
		forgotten := kmsg.NewFetchRequestForgottenTopic()
		forgotten.TopicID, forgotten.Partitions = p.topic, []int32{p.id}
		req.ForgottenTopics = append(req.ForgottenTopics, forgotten)
	}
	return req
}
