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
//	begin.go       partitions that begin once their leaders say where
//	topics.go      topics that appear, grow, vanish, are created again
//	batch.go       record batches (KIP-98) into records, transactions resolved
//	codec.go       what compressed batches hold, within bounds
//	fetch.go       one fetch session (KIP-227) on one broker
//	fetching.go    a fetch under way, and the one behind it
//	reader.go      live reading of many partitions over few sessions
//	deliver.go     its answers: records, and what a broker says instead
//	trouble.go     what the log says of brokers that fail and partitions they refuse
//	replay.go      reading a range of one partition again, for one user
//	scan.go        which replays are served together, and how many at a time
//	pass.go        passes over a log, each for all replays that wait for it
//	chunk.go       parts of logs, from Kafka or from memory
//	group.go       membership of the consumer group, commits
//	balance.go     which member of a group commits what
//	health.go      what of a group's failures is counted and told
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
// # Records that cannot be read
//
// A batch that fails its checksum, contradicts itself, or would decompress to more than 128 MiB may be
// right the next time, from another connection or another replica: it is fetched three times, each
// counted as herald_kafka_errors_total{kind="unreadable"}, and the partition waits for new metadata
// between them while the others go on. Then the batch is left out: a [Gap] with [GapUnreadable] or, from a
// replay, an [UnreadableError], and one line of level ERROR with topic, partition and offsets. Message
// sets of magic 0 and 1 are left out at once, all adjacent ones of an answer together, counted once.
// Replays log at most one line a second.
//
// # How fast it is
//
// `go test -run '^$' -bench Drain ./consumer`: one partition far behind, read with batches of 1,000
// records of 100 bytes beside other clients in the same run. The broker is a process of its own; CPU
// is that of the reading process. Two cores.
//
//	                 in-process broker         Apache Kafka 4.3.1
//	                 ns/record  CPU ns  heap   ns/record  CPU ns  heap
//	Herald                 249      79  10 MB        141     123  26 MB
//	kafka.Reader           920     796   5 MB        767     992   4 MB
//	kafka.Client           597     331  35 MB        423     421  37 MB
//	franz-go               446     264  21 MB        334     353  11 MB
//
// On the in-process broker the broker is what Herald waits for: its own CPU (broker-ns/op) is nearly
// all of the time. With batches of one record (not compressed) Herald takes 131 ns of CPU a record and
// 4 MB of heap there, kafka.Reader 930 ns, kafka.Client 1,980 ns and 3.5 GB, franz-go 708 ns.
//
// On Apache Kafka: `make bench-kafka BENCH=Drain BENCHARGS='-benchtime 2000000x'`, which starts it in a
// container; HERALD_BENCH_BROKER=host:port names one that runs. The broker is warmed up before each
// reader: whoever comes first to a new one pays for the compilation of its code, Herald then 215 ns.
// Other sizes and codecs there, with -benchtime 500000x, in ns and CPU ns a record:
//
//	                Herald    kafka.Reader  kafka.Client  franz-go
//	10, none        212, 208    863, 1448   1129, 1157    510, 537
//	10, gzip        960, 969   1973, 2945   3337, 3400   1448, 1512
//	10, zstd        219, 227   1088, 1843    885, 928     428, 504
//	1,000, gzip     330, 343    963, 1682   2154, 2185    548, 613
//	1,000, snappy   153, 159    808, 1516    527, 547     365, 456
//	1,000, lz4      152, 154    708, 1315    528, 536     266, 268
//	1,000, zstd     134, 144    878, 1458    525, 583     297, 344
//
// `go test -run '^$' -bench WakeUp -benchtime 3000x ./consumer`: from produce to delivered, on a random
// one of many users' topics. In process with other work beside it, on Apache Kafka with none; p50 and
// p99 in milliseconds, each broker in one run.
//
//	                            topics  1           100        1,000      5,000
//	in-process    Herald                0.17, 0.40  0.30, 1.3  0.53, 3.2  0.93, 4.0
//	              franz-go              0.17, 0.40  0.37, 1.7  2.3, 9.3   22, 228
//	Apache Kafka  Herald                0.52, 2.2   0.82, 4.3  1.0, 2.5   1.7, 5.1
//	              franz-go              0.45, 0.84  0.91, 2.7  4.3, 10    not done in 3 min
//	              kafka.Reader          0.54, 2.4   0.48, 0.8  0.67, 3.1  not tried
//	Herald's connections                3           3          6          19
//
// A kafka.Reader for each topic has a connection for each: 1,000 for 1,000 topics; 5,000 were not ready
// in three minutes on the in-process broker.
//
// What 5,000 topics add on Apache Kafka is the broker's work for each fetch, which grows with the
// partitions of the session ([Config.SessionPartitions]), and its garbage: with a heap of 512 MB for
// 5,000 topics it stops for 10 to 19 ms several times a second, and p99 is 14 to 16 ms. The figures are
// with the heap of 6 GB and the collector's options that Kafka's documentation shows, as make bench-kafka
// has them. On a broker just started one topic has a p99 of 3.3 to 3.9 ms and 5,000 have 5.2 to 6.6, 1.5
// to 1.9 times as much; on one that has run for some minutes it is 0.9 to 1.1 and 3.9 ms. With 60
// partitions a session and 86 connections (herald-60) 5,000 topics have there what one has: 2.2 ms both,
// in one run.
package consumer
