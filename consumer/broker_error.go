package consumer

import (
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"
)

// The kinds of errors, as values of the metric's label kind.
const (
	errorContact    = "contact"      // no broker answered a metadata request
	errorFetch      = "fetch"        // a live fetch failed as a whole
	errorReplay     = "replay"       // a pass for replays failed
	errorGroup      = "group"        // a consumer group could not be joined, asked or committed to
	errorUnreadable = "unreadable"   // records are damaged or of an old format
	errorOutOfRange = "out-of-range" // the log does not hold the next offset to read live
)

// The kinds of errors that a broker returns for a partition or a topic.
const (
	errorMoved  = "moved"  // another broker leads the partition, or will soon
	errorGone   = "gone"   // the topic was deleted, and perhaps created again
	errorDenied = "denied" // an access control list forbids reading
	errorOther  = "other"
)

var errorKinds = []string{
	errorContact, errorFetch, errorReplay, errorGroup, errorUnreadable, errorOutOfRange,
	errorMoved, errorGone, errorDenied, errorOther,
}

// errorKind returns the kind of an error that a broker returned for a partition or a topic.
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
