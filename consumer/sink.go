package consumer

// Sink takes the records that a [Consumer] reads live. The consumer calls it for one partition at a time
// and in offset order, and for different partitions at the same time. A Sink must not block: while it does,
// its partition and all partitions that share the fetch session wait.
type Sink interface {
	// Begin says that p is read from the offset next on. topicID differs for a later topic of the same
	// name (KIP-516): all partitions of the earlier topic end before the later topic begins.
	Begin(p Partition, topicID [16]byte, next int64)

	// Deliver hands over records with their users, and says that all offsets of p before next have been
	// read. There may be no records. The records are valid until Deliver returns.
	Deliver(p Partition, records []Record, next int64)

	// Gap says that reading continues at gap.To and that the records before it, from gap.From on, cannot be
	// delivered.
	Gap(p Partition, gap Gap)

	// End says that the consumer no longer reads p.
	End(p Partition)
}

// GapReason says why records were lost. Its values are a part of the protocol with clients.
type GapReason string

// The reasons.
const (
	GapRetention   GapReason = "retention"    // deleted by Kafka's retention
	GapRecreated   GapReason = "recreated"    // the topic was deleted and created again
	GapUnknownID   GapReason = "unknown-id"   // the position does not belong to this log, or there is no position
	GapReplayLimit GapReason = "replay-limit" // more records than the server is set to replay
	GapUnreadable  GapReason = "unreadable"   // the records fail their checksum or are of an old format
)

// Gap is a range of offsets that cannot be delivered, From up to but not including To. With
// [GapUnknownID] To may be smaller than From, because the log was cut.
type Gap struct {
	From, To int64
	Reason   GapReason
}
