package consumer

import (
	"encoding/binary"
	"math"
)

// Kafka names a topic by an id (KIP-516) in Metadata from version 10 on, and in Fetch from version 13 on. Where the
// cluster reports no id, the replica gives the topic a local id. Local ids distinguish topics within this process:
// a topic gets another local id once the replica finds that it was deleted and created again. They say nothing to
// another replica, or after a restart.

// IsLocalID reports whether the topic id was made up by this process, because Kafka has reported none. Kafka's ids
// are UUIDs of version 4, whose first half is never 0.
func IsLocalID(id [16]byte) bool {
	return id != [16]byte{} && binary.BigEndian.Uint64(id[:8]) == 0
}

// localID returns the local id with that number, which is above 0.
func localID(number uint64) (id [16]byte) {
	binary.BigEndian.PutUint64(id[8:], number)
	return id
}

// unknownID is the local id of a topic that is not read here.
var unknownID = localID(math.MaxUint64)

// newLocalIDLocked returns a local id that no topic has had.
func (t *topicRegistry) newLocalIDLocked() [16]byte {
	t.localIDs++
	return localID(t.localIDs)
}

// identifyLocked notes the id that metadata has for the topic; zero if it has none. The first id of an incarnation
// stays the id by which streams know it: if Kafka reports an id only later, as during an upgrade, nothing changes for
// them.
func (t *topicRegistry) identifyLocked(state *topicState, reported [16]byte) {
	state.idless, state.shorter = reported == [16]byte{}, 0
	if !state.idless {
		state.kafkaID, state.recreated = reported, false
	}
	if state.id != [16]byte{} {
		return
	}
	if state.id = state.kafkaID; state.id == [16]byte{} {
		state.id = t.newLocalIDLocked()
	}
}

// place says which broker a partition is fetched from, and how the fetch names the topic.
type place struct {
	leader  int32
	fetchID [16]byte // Kafka's id of the topic; or a local id, and then the fetch names the topic by name
	epoch   int32    // the leader's epoch (KIP-320); -1: not known
}

// placeLocked returns the place of one of the topic's partitions. The topicPoller, which alone changes places, calls it
// without the lock.
func (t *topicState) placeLocked(partition int) place {
	at := place{leader: t.leaders[partition], fetchID: t.kafkaID, epoch: -1}
	if at.fetchID == [16]byte{} {
		at.fetchID = t.id
	}
	if partition < len(t.epochs) {
		at.epoch = t.epochs[partition]
	}
	return at
}

// placeOf returns the place of a partition of the topic with that id. The error is [ErrRecreated] if the topic has
// another id.
func (t *topicRegistry) placeOf(p Partition, topicID [16]byte) (place, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	state, err := t.stateOfLocked(p)
	if err != nil {
		return place{}, err
	}
	if state.id != topicID {
		return place{}, ErrRecreated
	}
	return state.placeLocked(int(p.ID)), nil
}

// isSame reports whether metadata with that id is of the topic that the replica knows by topicID.
func (t *topicRegistry) isSame(name string, topicID, reported [16]byte) bool {
	if topicID == reported {
		return true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	state := t.states[name]
	return state != nil && state.id == topicID && !state.differsLocked(reported)
}

// differsLocked reports whether Kafka's id of the topic is known and is not the id that metadata reports. An id that
// is not known equals all ids.
func (t *topicState) differsLocked(reported [16]byte) bool {
	unknown := [16]byte{}
	return reported != unknown && t.kafkaID != unknown && reported != t.kafkaID
}
