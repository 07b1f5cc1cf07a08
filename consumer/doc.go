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
//	pointer.go     the user in a JSON value
//	partitioner.go how producers choose a record's partition
//	home.go        in which partitions a user's records are by that
//	record.go      records and their places
//	sink.go        what is told to whom
//	cluster.go     connections and single requests to brokers
//	ask.go         metadata from whichever broker answers
//	metadata.go    what a cluster says of topics
//	due.go         which topics to ask about, and when
//	topics.go      topics that appear, grow, vanish, are created again
//	batch.go       record batches (KIP-98) into records, transactions resolved
//	fetch.go       one fetch session (KIP-227) on one broker
//	fetching.go    a fetch under way, and the one behind it
//	reader.go      live reading of many partitions over few sessions
//	deliver.go     its answers: records, and what a broker says instead
//	replay.go      reading a range of one partition again, for one user
//	scan.go        passes over a log, each for all replays that wait for it
//	chunk.go       parts of logs, from Kafka or from memory
//	group.go       membership of the consumer group, commits
//	balance.go     which member of a group commits what
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
//
// # How fast it is
//
// `go test -run '^$' -bench Drain ./consumer`: one partition far behind, read with batches of 1,000
// records of 100 bytes beside other clients in the same run. The broker is a process of its own; CPU
// is that of the reading process. Two cores.
//
//	                 in-process broker         Apache Kafka 4.3.1
//	                 ns/record  CPU ns  heap   ns/record  CPU ns  heap
//	Herald                 249      79  10 MB        222     144  22 MB
//	kafka.Reader           920     796   5 MB        747     950   5 MB
//	kafka.Client           597     331  35 MB        438     435  34 MB
//	franz-go               446     264  21 MB        418     370   9 MB
//
// On the in-process broker the broker is what Herald waits for: its own CPU (broker-ns/op) is nearly
// all of the time. With batches of one record (not compressed) Herald takes 131 ns of CPU a record and
// 4 MB of heap, kafka.Reader 930 ns, kafka.Client 1,980 ns and 3.5 GB, franz-go 708 ns. Other codecs
// and sizes are in the benchmark. On Apache Kafka: HERALD_BENCH_BROKER=host:port and -benchtime
// 2000000x.
//
// `go test -run '^$' -bench WakeUp -benchtime 3000x ./consumer`: from produce to delivered, on a random
// one of many users' topics, with other work beside it; each broker in one run. What a busy machine
// adds is seen at the 99th percentile, on Apache Kafka most of all: for 5,000 topics it was 18 to 32 ms
// in four such runs, for one 5 to 21. With nothing beside it 5,000 topics have p50 1.7 and p99 14 to 16
// ms, one has 0.6 to 0.8 and 3.6 to 5.0.
//
//	                              topics  1           100        1,000      5,000
//	in-process    Herald p50, p99 ms      0.17, 0.40  0.30, 1.3  0.53, 3.2  0.93, 4.0
//	              franz-go                0.17, 0.40  0.37, 1.7  2.3, 9.3   22, 228
//	              Herald's connections    3           3          6          19
//	Apache Kafka  Herald p50, p99 ms      1.0, 11     0.89, 5.7  1.6, 19    2.3, 18
//	              Herald's connections    3           3          6          19
//
// A kafka.Reader for each topic wakes faster on the in-process broker, with a connection for each:
// 1,000 for 1,000 topics, and 5,000 were not ready in three minutes.
package consumer
