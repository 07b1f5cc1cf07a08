// Package consumer reads notification topics from Kafka and says whom each record is for.
//
// It turns partitions into routed records ([Record]) and hands them, partition by partition and
// in offset order, to a [Sink]. It also answers the question that makes streams resumable: what
// did a partition hold for one user between two offsets ([Consumer.Replay])? Kafka is the only
// history; the package stores nothing.
//
// # Files
//
//	consumer.go           the assembly of the parts, and the exported methods
//	config.go             the settings, and their checks
//	contact.go            whether Kafka answers
//	topic_registry.go     the topics and their routes, by name
//	topic_state.go        one topic: its id and its partitions
//	topic_poller.go       finds topics that appear, grow, vanish or are created again
//	metadata_schedule.go  when to ask the cluster about which topics
//	start_offsets.go      asks leaders for the offset at which a partition begins
//	offsets.go            questions about offsets: since a time, start and end of a log
//
//	live_reader.go        which partitions are read live, from which brokers
//	live_partition.go     one partition that is read live
//	shard.go              the partitions of one fetch session, and its loop
//	fetch_request.go      the fields that all fetch requests share
//	fetch_session.go      one fetch session (KIP-227) on one broker
//	fetch_ahead.go        a fetch under way; the next one before its answer is delivered
//	deliver.go            the answers: records, or the broker's error
//	unreadable.go         the error of records that cannot be read
//	broker_error.go       the kinds of a broker's errors
//	broker_log.go         log lines about brokers that fail and partitions they refuse
//	stall.go              finds partitions that have records to read and do not move
//	sink.go               the receiver of records, and gaps
//
//	route.go              which records belong to which users
//	routes.go             a checked set of routes
//	pointer.go            the user in a JSON value
//	partitioner.go        how producers choose a record's partition
//	home.go               the partitions that hold a user's records
//	record.go             names of a partition, a position and a record
//
//	replay.go             reads a range of one partition again, for one user
//	scan.go               which replays are served together, and how many at a time
//	pass.go               passes over a log, each for all replays that wait for it
//	chunk_reader.go       parts of logs that passes read, from Kafka or from memory
//	chunk_cache.go        the memory for these parts
//
//	group.go              membership of the consumer group, commits
//	group_health.go       counts and logs the group's failures
//	balance.go            which member of a group commits which partitions
//	delivered.go          positions delivered to users' streams
//	delivered_offsets.go  the requests that fetch and commit these positions
//
//	table_reader.go       reads a compacted topic whole, then follows it
//	table_sink.go         takes the records that such a reader reads
//	produce.go            writes records, for the publish endpoints and the command line
//	metrics.go            the metrics of the package
//
// Package batch below it decodes record batches; package broker sends single requests to brokers.
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
// right the next time, from another connection or another replica: it is fetched three times. Live, each is
// counted as herald_kafka_errors_total{kind="unreadable"}, and the partition waits for new metadata
// between them while the others go on; a replay tries at once and counts one. Then the batch is left out: a [Gap] with [GapUnreadable] or, from a
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
// All sizes and codecs there, with -benchtime 500000x, or 100000x for batches of one, in ns and CPU ns a
// record; each size in a run of its own:
//
//	                Herald      kafka.Reader  kafka.Client  franz-go
//	1, none          470, 569   1592, 5132    4131, 4441     771, 867
//	1, gzip          444, 426   1647, 5730    4478, 5107     701, 787
//	1, snappy        744, 812   2598, 6859    6590, 7626     914, 1003
//	1, lz4          1264, 1325  1796, 4967    5523, 6191    1127, 1103
//	1, zstd          928, 865   2197, 5607    6044, 6781    1414, 1481
//	10, none         141, 163    907, 1811     851, 919      425, 482
//	10, gzip        1073, 1094  1737, 2622    3481, 3611    1424, 1576
//	10, snappy       175, 187    982, 1704     906, 967      363, 462
//	10, lz4          234, 248   1130, 1829     869, 904      297, 318
//	10, zstd         166, 176    922, 1655     848, 901      327, 374
//	1,000, none      164, 128    922, 1514     439, 444      376, 421
//	1,000, gzip      360, 383   1136, 1955    2157, 2229     578, 658
//	1,000, snappy    153, 175    903, 1764     508, 535      387, 479
//	1,000, lz4       122, 133    819, 1616     589, 621      312, 348
//	1,000, zstd      202, 223    816, 1583     531, 567      389, 418
//
// So with batches of 1,000 Herald is 4 to 6.7 times as fast as kafka.Reader at a fifth of its CPU or less,
// but for gzip, where most of the time is the decompression: 3.2 times. It is slower than franz-go in one
// place, single lz4 records. Its heap is 11 to 34 MB, most with lz4, and kafka.Client's up to 4.4 GB with
// batches of one (TestContractSmallBatches holds Herald to 64 MB). Herald allocates 0 times a record, 3
// times in compressed batches of one of snappy or lz4, kafka.Reader once and 6 times, franz-go 0 to 3.
//
// Records of users none of whom has a stream are what a replica reads for all others: `go test -run '^$'
// -bench Absent -benchtime 1000000x ./integration` has the whole server and Centrifugo 6.9.1 read the same
// from four partitions on Apache Kafka. Herald passes over one in 199 ns (270 ns of CPU), Centrifugo in
// 23,346 ns (30,720): 117 and 114 times as much.
//
// `go test -run '^$' -bench WakeUp -benchtime 3000x ./consumer`: from produce to delivered, on a random
// one of many users' topics. In process with other work beside it, on Apache Kafka with none; p50 and
// p99 in milliseconds, each broker in one run.
//
//	                            topics  1           100        1,000      5,000
//	in-process    Herald                0.17, 0.40  0.30, 1.3  0.53, 3.2  0.93, 4.0
//	              franz-go              0.17, 0.40  0.37, 1.7  2.3, 9.3   22, 228
//	Apache Kafka  Herald                0.42, 1.1   0.69, 2.4  1.1, 2.8   1.6, 4.1
//	              franz-go              0.48, 2.0   0.77, 3.0  5.2, 13    not done in 3 min
//	              kafka.Reader          0.48, 3.3   0.44, 1.4  0.52, 2.0  not tried
//	Herald's connections                3           3          6          19, 20
//
// A kafka.Reader for each topic has a connection for each: 1,000 for 1,000 topics; 5,000 were not ready
// in three minutes on the in-process broker.
//
// What 5,000 topics add on Apache Kafka is the broker's work for each fetch, which grows with the
// partitions of the session ([Config.SessionPartitions]), and its garbage: with a heap of 512 MB for
// 5,000 topics it stops for 10 to 19 ms several times a second, and p99 is 14 to 16 ms. The figures are
// with the heap of 6 GB and the collector's options that Kafka's documentation shows, as make bench-kafka
// has them. Twice the p99 of one topic is not reached on 20 connections: on a broker just started one
// topic has a p99 of 3.3 to 3.9 ms and 5,000 have 5.2 to 8.3, 1.5 to 2.1 times as much in five runs; on one
// that has run for some minutes it is 0.9 to 1.1 and 3.9 to 4.1 ms, four times as much. More connections
// help: with 60 partitions a session and 86 connections (herald-60) it is 2.2 to 2.9 ms on either.
package consumer
