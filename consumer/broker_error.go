package consumer

import (
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"
)

// Kinds of what a broker may answer instead of records, as the metric's label has them.
const (
	errorMoved  = "moved"  // another broker has the partition, or will
	errorGone   = "gone"   // the topic was deleted, perhaps created again
	errorDenied = "denied" // an access control list
	errorOther  = "other"
)

func kindOf(err error) string {
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
