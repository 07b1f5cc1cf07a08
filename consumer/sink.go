package consumer

// Sink takes the records that a [Consumer] reads live. The consumer calls it for one partition at a time
// and in offset order, and for different partitions at the same time. A Sink must not block: while it does,
// its partition and all partitions that share the fetch session wait.
type Sink interface {
	// Begin says that p is read from the offset next on. topicID differs for a later topic of the same
	// name (KIP-516): all partitions of the earlier topic end before the later topic begins. If Kafka has not
	// reported its id ([IsLocalID]), a topic that is read again after it was not read has another topicID, too.
	Begin(p Partition, topicID [16]byte, next int64)

	// Deliver hands over records with their users, and says that all offsets of p before next have been
	// read. There may be no records. The records are valid until Deliver returns, and Deliver may change them.
	Deliver(p Partition, records []Record, next int64)

	// Gap says that reading continues at gap.To and that the records before it, from gap.From on, cannot be
	// delivered.
	Gap(p Partition, gap Gap)

	// End says that the consumer no longer reads p.
	End(p Partition)
}
