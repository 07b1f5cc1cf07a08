package consumer

// Sink takes what a [Consumer] reads live. Calls for one partition come one after the other, in
// offset order; calls for different partitions may come at the same time. A Sink must not block:
// the partition waits, and with it all that share its fetch.
type Sink interface {
	// Begin says that p is read from next on. topicID tells one topic from a later one of the
	// same name (KIP-516): before that one begins, all partitions of the first have ended.
	Begin(p Partition, topicID [16]byte, next int64)

	// Deliver hands over records, with whom they are for, and how far p has now been read: all
	// offsets before next. There may be no records. They are valid until Deliver returns.
	Deliver(p Partition, records []Record, next int64)

	// Gap says that reading goes on at gap.To and that what lies between cannot be delivered.
	Gap(p Partition, gap Gap)

	// End says that p is no longer read.
	End(p Partition)
}

// GapReason says why records were lost. Its values are a part of the protocol with clients.
type GapReason string

// The reasons.
const (
	GapRetention   GapReason = "retention"    // deleted by Kafka's retention
	GapRecreated   GapReason = "recreated"    // the topic was deleted and created again
	GapUnknownID   GapReason = "unknown-id"   // the position is not one of this log, or there is none
	GapReplayLimit GapReason = "replay-limit" // more than the server is set to replay
	GapUnreadable  GapReason = "unreadable"   // the records fail their checksum or are of an old format
)

// Gap is a range of offsets that cannot be delivered: From up to, not including, To. With
// [GapUnknownID] To may be smaller: the log was cut.
type Gap struct {
	From, To int64
	Reason   GapReason
}
