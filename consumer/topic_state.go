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

	id      [16]byte   // Kafka's topic id; zero until the cluster reports the topic
	pastIDs [][16]byte // ids of earlier incarnations, which an outdated broker may still report
	leaders []int32    // by partition; -1: no leader
	known   bool       // the cluster has reported what the topic is; partitions that appear later are read from their start
	missing bool       // the cluster reports that the topic does not exist
	failed  string     // the last error logged
	unread  error      // why the last partition that could not start did not
	denied  bool       // an access control list forbids reading, and the log says so

	users    int       // Joins without their Leave, for a user's own topic
	lastLeft time.Time // the last Leave

	asked  time.Time // when the cluster was last asked about the topic
	queued bool      // the topic waits for its turn in the schedule

	starts map[int32]*pendingStart // by partition: the partitions whose leaders have not yet reported an offset to start at; only the topicPoller uses it
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
// an earlier incarnation, or fewer partitions.
func (t *topicState) isOutdatedLocked(m *broker.TopicMetadata) bool {
	return slices.Contains(t.pastIDs, m.ID) || len(t.leaders) > len(m.Leaders) && !t.isRecreatedLocked(m)
}

// isRecreatedLocked reports whether the metadata is of another incarnation of the topic.
func (t *topicState) isRecreatedLocked(m *broker.TopicMetadata) bool {
	return t.id != ([16]byte{}) && t.id != m.ID
}
