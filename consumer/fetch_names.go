package consumer

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"herald/consumer/broker"
)

// A fetch names its topics by id (KIP-516) or, if the broker's Fetch is older than version 13 or Kafka's id of one of
// the topics is not known, by name. The rest of live reading knows partitions by topicIDPartition alone.

// describe gives the session the partitions that it fetches from now on. The session keeps the names of their topics and
// the epochs of their leaders.
func (s *fetchSession) describe(partitions map[topicIDPartition]*livePartition) {
	names := make(map[[16]byte]string)
	s.byName = false
	for key, p := range partitions {
		names[key.topicID] = p.Topic
		s.byName = s.byName || IsLocalID(key.topicID)
	}
	before := s.names
	s.names, s.ids, s.epochs = names, nil, nil
	if s.fetchesByName() || s.version == 0 {
		s.epochs = make(map[topicIDPartition]int32, len(partitions))
		for key, p := range partitions {
			s.epochs[key] = p.epoch
		}
	}
	wanted := len(names)
	for key := range s.sent { // a fetch also names the partitions that the broker is to forget
		if _, ok := names[key.topicID]; !ok {
			names[key.topicID] = before[key.topicID]
		}
	}
	if len(names) > wanted && len(s.idsByName()) < len(names) {
		// One request cannot name a topic by name for two incarnations.
		s.restart()
		s.describe(partitions)
	}
}

// idsByName returns the ids of the topics that may be in a response.
func (s *fetchSession) idsByName() map[string][16]byte {
	if s.ids == nil {
		s.ids = make(map[string][16]byte, len(s.names))
		for id, name := range s.names {
			s.ids[name] = id
		}
	}
	return s.ids
}

// epochOf returns the leader's epoch for a fetch of the partition; -1 for a fetch by id, which needs none. The broker
// refuses the fetch if the epoch differs (KIP-320): the broker no longer leads the partition, does not lead it yet, or the
// topic was created again.
func (s *fetchSession) epochOf(p topicIDPartition) int32 {
	if epoch, ok := s.epochs[p]; ok && s.fetchesByName() {
		return epoch
	}
	return -1
}

// acceptedEpoch returns the epoch of the leader that the fetch named, if the broker answered with that version and
// without error; -1 if the fetch named none. The next fetch may be under way meanwhile.
func (s *fetchSession) acceptedEpoch(p topicIDPartition, version int16) int32 {
	const checked = 9 // the first version of a fetch whose epoch the broker compares (KIP-320)
	if s == nil {     // in tests
		return -1
	}
	if epoch, ok := s.epochs[p]; ok && version >= checked && version <= broker.FetchByName {
		return epoch
	}
	return -1
}

// fetchesByName reports whether the next fetch names topics by name, as far as that is known before the request.
func (s *fetchSession) fetchesByName() bool {
	return s.byName || s.version > 0 && s.version <= broker.FetchByName
}

// adoptNames adds the ids of the topics to a response that has only their names.
func (s *fetchSession) adoptNames(res *kmsg.FetchResponse) {
	if res.Version > broker.FetchByName {
		return
	}
	ids := s.idsByName()
	for i := range res.Topics {
		res.Topics[i].TopicID = ids[res.Topics[i].Topic]
	}
}
