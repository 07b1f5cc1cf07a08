package consumer

// GapReason says why records were lost. Its values are a part of the protocol with clients.
type GapReason string

// The reasons.
const (
	GapRetention   GapReason = "retention"    // deleted by Kafka's retention
	GapRecreated   GapReason = "recreated"    // the topic was deleted and created again
	GapUnknownID   GapReason = "unknown-id"   // the position does not belong to this log, or the client's id has none
	GapReplayLimit GapReason = "replay-limit" // more records than the server is set to replay
	GapUnreadable  GapReason = "unreadable"   // the records fail their checksum or are of an old format
	GapUndecodable GapReason = "undecodable"  // the format of the route cannot decode the record, see [Record.Decode]
)

// Gap is a range of offsets that cannot be delivered, From up to but not including To. With
// [GapUnknownID] To may be smaller than From, because the log was cut.
type Gap struct {
	From, To int64
	Reason   GapReason
}
