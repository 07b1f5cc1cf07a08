package consumer

import (
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"
)

// The kinds of errors that a broker returns for a partition or a topic, as values of the metric's label kind.
const (
	errorMoved  = "moved"  // another broker leads the partition, or will soon
	errorGone   = "gone"   // the topic was deleted, and perhaps created again
	errorDenied = "denied" // an access control list forbids it
	errorOther  = "other"
)

// errorKind returns the kind of an error.
func errorKind(err error) string {
	is := func(list ...error) bool {
		for _, e := range list {
			if errors.Is(err, e) {
				return true
			}
		}
		return false
	}
	switch {
	case is(kerr.NotLeaderForPartition, kerr.FencedLeaderEpoch, kerr.UnknownLeaderEpoch, kerr.ReplicaNotAvailable,
		kerr.LeaderNotAvailable, kerr.OffsetNotAvailable, kerr.KafkaStorageError):
		return errorMoved
	case is(kerr.UnknownTopicOrPartition, kerr.UnknownTopicID, kerr.InconsistentTopicID):
		return errorGone
	case is(kerr.TopicAuthorizationFailed, kerr.ClusterAuthorizationFailed):
		return errorDenied
	default:
		return errorOther
	}
}
