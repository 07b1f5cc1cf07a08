package consumer

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"herald/consumer/broker"
)

const (
	// fetchMaxWait is how long a broker holds a fetch while it has no records for it.
	fetchMaxWait = 250 * time.Millisecond

	// fetchSlack is how long a broker may take for a fetch in addition to that wait.
	fetchSlack = 10 * time.Second

	// maxThrottle bounds how long Herald waits for a quota. The field has room for 24 days, and no checksum
	// covers it.
	maxThrottle = time.Minute
)

// fetchOptions are the settings that all fetches share.
type fetchOptions struct {
	maxBytes int32  // of a response
	rack     string // of this replica (KIP-392)
}

// newRequest returns a fetch without partitions, of the session and the epoch (KIP-227), that the broker
// holds for wait while it has no records.
func (o fetchOptions) newRequest(sessionID, epoch int32, wait time.Duration) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.ReplicaID = -1
	req.MaxWaitMillis = int32(wait / time.Millisecond) //nolint:gosec // a second at most
	req.MinBytes = 1
	req.MaxBytes = o.maxBytes
	req.IsolationLevel = broker.ReadCommitted
	req.SessionID = sessionID
	req.SessionEpoch = epoch
	req.Rack = o.rack
	return req
}

// newFetchPartition returns the part of a fetch that asks for at most that many bytes of a partition, from
// the point on.
func newFetchPartition(id int32, at fetchPoint, bytes int32) kmsg.FetchRequestTopicPartition {
	p := kmsg.NewFetchRequestTopicPartition()
	p.Partition = id
	p.CurrentLeaderEpoch = at.epoch
	p.FetchOffset = at.offset
	p.LogStartOffset = -1
	p.PartitionMaxBytes = bytes
	return p
}

// limitVersion makes the fetch name its topics by name if Kafka's id of one of them is not known.
func limitVersion(req *kmsg.FetchRequest, fetchID [16]byte) {
	if IsLocalID(fetchID) {
		req.Version = broker.FetchByName
	}
}

// isAbout reports whether a topic of the answer is the topic with that name and id.
func isAbout(res *kmsg.FetchResponse, topic *kmsg.FetchResponseTopic, name string, fetchID [16]byte) bool {
	if res.Version <= broker.FetchByName {
		return topic.Topic == name
	}
	return topic.TopicID == fetchID
}

// throttle returns how long the broker will not read the next request on this connection because of a
// quota (KIP-219). From Kafka 2.0 on, the response itself has no records then.
func throttle(res *kmsg.FetchResponse) time.Duration {
	return min(time.Duration(max(0, res.ThrottleMillis))*time.Millisecond, maxThrottle)
}
