// Package consumer reads notification topics from Kafka and says whom each record is for.
//
// It turns partitions into routed records ([Record]) and hands them, partition by partition and
// in offset order, to a [Sink]. It also answers the question that makes streams resumable: what
// did a partition hold for one user between two offsets ([Consumer.Replay])? Kafka is the only
// history; the package stores nothing.
//
// # Files
//
//	consumer.go    the parts put together; whose streams need which topics
//	route.go       which records belong to whom
//	record.go      records and their places
//	sink.go        what is told to whom
//	cluster.go     connections and single requests to brokers
//	ask.go         metadata from whichever broker answers
//	metadata.go    what a cluster says of topics
//	topics.go      topics that appear, grow, vanish, are created again
//	batch.go       record batches (KIP-98) into records, transactions resolved
//	fetch.go       one fetch session (KIP-227) on one broker
//	reader.go      live reading of many partitions over few sessions
//	deliver.go     its answers: records, and what a broker says instead
//	replay.go      reading a range of one partition again, for one user
//	scan.go        passes over a log, each for all replays that wait for it
//	chunk.go       parts of logs, from Kafka or from memory
//	group.go       membership of the consumer group, commits
//	delivered.go   what was written to users' streams, as committed offsets
//	produce.go     writing records, for the publish endpoints and the command line
//	metrics.go     all of them
//
// # Connections
//
// kafka-go dials, speaks TLS and SASL, pools connections and keeps the group membership. The
// requests that decide exactness (Fetch, ListOffsets, Metadata) are sent over its connections with
// kmsg's encoding of newer protocol versions: a fetch by topic id (KIP-516) is refused by the
// broker once the topic was deleted and created again, where a fetch by name would go on reading
// somebody else's offsets.
//
// # Where live reading starts
//
// At the end of the log: streams get what lies before by replay, from their own position. Committed
// offsets are kept so that Kafka's tools show a lag, not to start from. A partition that appears
// while Herald runs is read from its start, since nobody can have seen it yet.
package consumer
