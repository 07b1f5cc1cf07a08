package consumer

import (
	"slices"
	"time"

	"herald/consumer/broker"
)

// topicState is what the replica knows of one topic that it reads or waits for. The lock of the
// [topicRegistry] guards it, except for the fields that newTopicState sets and for starts.
type topicState struct {
	name    string
	route   *Route
	settled chan struct{} // closed once all of the topic is read, or once it is certain that the topic cannot be read

	id        [16]byte   // Kafka's topic id, or a local id; zero until the cluster reports the topic
	kafkaID   [16]byte   // Kafka's topic id; zero while the cluster has not reported it
	idless    bool       // the last metadata had no id
	pastIDs   [][16]byte // Kafka's ids of earlier incarnations, which an outdated broker may still report
	leaders   []int32    // by partition; -1: no leader
	epochs    []int32    // by partition: the leader's epoch; -1: not known
	shorter   int        // how many answers in a row without an id had fewer partitions than are read
	recreated bool       // live reading has found that the topic was created again
	claim     topicClaim // what one metadata response said and no other has confirmed
	known     bool       // the cluster has reported what the topic is; partitions that appear later are read from their start
	partial   bool       // the topic exists, and not all of its partitions have begun
	missing   bool       // the cluster reports that the topic does not exist
	absent    time.Time  // when the cluster last reported that
	missed    bool       // one metadata response says so; a topic that is always read waits for another
	failed    string     // the last error logged
	unread    error      // why the last partition that could not start did not
	denied    bool       // an access control list forbids reading, and the log says so

	users    int       // Joins without their Leave, for a user's own topic
	lastLeft time.Time // the last Leave

	asked  time.Time // when the cluster was last asked about the topic
	queued bool      // the topic waits for its turn in the schedule

	starts map[int32]*pendingStart // by partition: the partitions whose leaders have not yet reported an offset to start at; only the topicPoller uses it
}

// topicClaim is what metadata says about a topic and nothing takes back.
type topicClaim struct {
	id         [16]byte
	partitions int
}

func newTopicState(name string, route *Route) *topicState {
	return &topicState{name: name, route: route, settled: make(chan struct{})}
}

// settleLocked ends the wait of all Joins for the topic.
func (t *topicState) settleLocked(known bool) {
	t.known = t.known || known
	select {
	case <-t.settled:
	default:
		close(t.settled)
	}
}

// reasonLocked returns why the topic is not read, as the end of a sentence.
func (t *topicState) reasonLocked() string {
	switch {
	case t.failed != "":
		return ": " + t.failed
	case t.unread != nil:
		return ": " + t.unread.Error()
	default:
		return ""
	}
}

// isOutdatedLocked reports whether the metadata is older than metadata that was seen before: it has an id of
// an earlier incarnation, or fewer partitions than are read. read is the number of partitions that are read,
// counted from the first to the last.
func (t *topicState) isOutdatedLocked(m *broker.TopicMetadata, read int) bool {
	return slices.Contains(t.pastIDs, m.ID) || read > len(m.Leaders) && !t.isRecreatedLocked(m)
}

// mustConfirmLocked reports whether the metadata makes a change that nothing takes back, another id or another
// number of partitions, and is the first to do so. No checksum covers metadata: a flipped bit would otherwise
// end the topic, because afterwards the true metadata counts as outdated. homed reports that users have homes in
// the topic, which depend on the number of partitions from the start.
func (t *topicState) mustConfirmLocked(m *broker.TopicMetadata, homed bool) bool {
	claim := topicClaim{m.ID, len(m.Leaders)}
	if claim.id == [16]byte{} { // unknown
		claim.id = t.kafkaID
	}
	first := t.id == [16]byte{}
	if first && !homed || claim == (topicClaim{t.kafkaID, len(t.leaders)}) || claim == t.claim {
		return false
	}
	t.claim = claim
	return true
}

// isRecreatedLocked reports whether the metadata is of another incarnation of the topic.
func (t *topicState) isRecreatedLocked(m *broker.TopicMetadata) bool {
	unknown := [16]byte{}
	return t.differsLocked(m.ID) || t.recreated && (m.ID == unknown || t.kafkaID == unknown)
}

// forgetLocked forgets the ids of an incarnation that was deleted, and the starts of its partitions.
func (t *topicState) forgetLocked() {
	if t.kafkaID != [16]byte{} {
		t.pastIDs = append(t.pastIDs, t.kafkaID)
	}
	t.id, t.kafkaID, t.starts, t.recreated = [16]byte{}, [16]byte{}, nil, false
}
