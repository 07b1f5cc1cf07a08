// Package consumer reads notification topics from Kafka and finds the user that each record is for.
//
// A [Consumer] turns partitions into routed records ([Record]) and hands them to a [Sink], partition by
// partition and in the order of offsets. [Consumer.Replay] makes streams resumable: it reads again the records
// that a partition holds for one user between two offsets. Kafka is the only history. The package stores
// nothing.
//
// # The way of a live record
//
//  1. [Consumer.Run] runs topicPoller.run. topicPoller.poll sends the metadata request that is due in the
//     metadataSchedule. topicPoller.adopt compares the answer with the topicRegistry, and
//     adoptLeaders passes new partitions to startOffsets.add.
//  2. startOffsets.askLeaders asks the leader of a new partition for the offset to start at.
//     startOffsets.acceptAnswer calls liveReader.beginPartition, which calls [Sink].Begin.
//  3. liveReader.assign adds the partition to a shard of its broker: the leader, or a nearer follower.
//  4. liveReader.runShard repeats: startFetch asks for the shard's partitions by fetchSession.fetch, and
//     awaitFetch waits for the response.
//  5. liveReader.deliverResponse takes the response apart. deliverPartition handles the error of a partition,
//     or calls deliverRecords.
//  6. deliverRecords reads each record with batch.Reader.Next. It leaves out records that Route.Where leaves out.
//     Before a record whose schema is not there yet, it ends, and the partition is in no shard until the registry
//     answers (liveReader.beginSchemaWait). Route.setOwner finds the owner of a record: a user, or a value of the
//     route's claim.
//  7. liveReader.passOnLocked appends the records to the partition's part of the tail ([logtail.Log]).
//  8. [Sink].Deliver takes up to maxDelivery records, or maxDecoded bytes, and the offset after them. If the route has a
//     format, the Sink calls [Record.Decode] for the records that it wants. With user=json:…, setOwner has done so.
//
// # The way of a replayed record
//
// A record in the tail:
//
//  1. [Consumer.Replay] calls liveReader.replayTail for each range, which calls [logtail.Log.Read].
//  2. Read finds the records of the range's owners ([Route.ownersFor]) by the index, and calls the function given to Replay
//     for each.
//
// An older record:
//
//  1. [Consumer.Replay] makes a rangeRequest of each range, which ends where the tail starts. scans.waitInDebt
//     waits if passes have read too much for the user. scans.addRequest adds the request to the waiters of its
//     zone: the requests for short or for long ranges of the log.
//  2. The goroutine of the zone runs pass.run, which waits for a slot. pass.beginWithAll or
//     pass.updateRequests takes the waiting requests into the pass.
//  3. pass.readChunk calls chunkReader.read, which returns a chunk from the chunkCache or fetches it.
//  4. pass.offerRecords decodes the chunk with batch.Reader.Next. Route.setOwner finds the owner of a record.
//  5. rangeRequest.offer calls the function given to Replay, for each request of that owner.
//  6. rangeRequest.advance ends the request when the pass has reached its end. Replay returns when all of its
//     requests have ended, and the records after them have come from the tail.
//
// # Files
//
// Assembly:
//
//	consumer.go            the parts of a Consumer, and its exported methods
//	config.go              the settings of a Consumer
//	contact.go             whether Kafka answers
//	metrics.go             the metrics of the package
//
// Topics:
//
//	topic_registry.go      the topics that are read or waited for, and the users who need them
//	topic_state.go         the state of one topic
//	topic_poller.go        topics that appear, grow, vanish or are created again
//	metadata_schedule.go   which topics the next metadata request names, and when
//	start_offsets.go       the offsets at which new partitions start
//	offsets.go             questions about offsets and topic ids; errors of positions
//	topic_id.go            the ids of topics, where Kafka reports them and where not
//
// Live reading:
//
//	live_reader.go         which partitions are read live, and from which brokers
//	live_partition.go      a partition that is read live
//	current.go             whether live reading has come to the ends of the logs, as the brokers report them
//	log_end.go             where logs begin and end, as live reading knows it
//	look_back.go           the records before the end of a log that live reading begins with
//	shard.go               the partitions of one fetch session, and the loop that reads them
//	fetch_request.go       the fields that all fetch requests share
//	fetch_session.go       a fetch session (KIP-227) with one broker
//	fetch_names.go         topics by id or by name in the requests of a session
//	fetch_ahead.go         a fetch under way; fetching before the last response is delivered
//	deliver.go             responses: records for the Sink, or errors
//	unreadable.go          the error for records that cannot be read
//	broker_error.go        kinds of errors, as values of a metric's label
//	log_limit.go           how often a line may be logged
//	broker_log.go          log lines about brokers that fail and partitions that brokers refuse
//	stall.go               finds partitions that do not move although they have records to read
//	sink.go                the interface that takes records and gaps
//	recreation.go          finds topics that were created again, where fetches name topics by name
//	schema_wait.go         partitions that wait for a schema of their next record
//	gap.go                 ranges of lost records and the reasons, which clients see
//
// Routing:
//
//	route.go               a route: its topics, and the owner of a record
//	condition.go           conditions on the headers of records, of a route or of a stream
//	route_text.go          the text of a route, and what a wrong text was probably meant for
//	routes.go              a checked set of routes
//	pointer.go             the user in a JSON value
//	partitioner.go         how producers choose the partition of a record
//	home.go                the partitions that may hold a user's records
//	ownerless.go           records of shared topics that no user can ever get, or that name no value of a claim
//	user_name.go           names that no user can have
//	user_encoding.go       how topics of users spell them
//	record.go              a partition, a position and a record
//	decoding.go            how the format of a route decodes its records
//	value_format.go        which formats a route may name
//
// Replays:
//
//	replay.go              one call of Replay, and its ranges: from the tail, and from passes over Kafka
//	scan.go                which requests are served together, and how many passes read at a time
//	waiters.go             the requests that wait for a pass
//	pass.go                a pass over a log for all requests that wait for it
//	gather.go              how a pass waits for the other clients of a storm
//	replay_cost.go         what passes cost each user; users who have cost too much wait
//	chunk_reader.go        reads the parts of a log from memory or from Kafka
//	chunk_cache.go         parts of logs in memory, older than the tail, that passes have read for short ranges
//
// Consumer groups:
//
//	group.go               the membership of the replica's group, and its commits
//	group_health.go        counts and logs the failures of a group
//	balance.go             which member of a group commits which partitions
//	delivered.go           how far users' own topics were delivered to their streams
//	delivered_offsets.go   the requests that fetch and commit these positions
//
// Tables and writing:
//
//	table_reader.go        reads a compacted topic whole, then follows it
//	compacted.go           whether Kafka compacts a topic
//	table_sink.go          the Sink of a table reader
//	produce.go             writes single records
//	inspection.go          asks a cluster for what a Consumer and a Producer will need, for herald check
//
// Package [herald/consumer/batch] decodes record batches. Package [herald/consumer/broker] sends requests to
// brokers. Package [herald/consumer/logtail] keeps the newest records in memory, with an index by user. Package
// [herald/consumer/format] decodes the values of records whose producers do not write text, and package
// [herald/consumer/registry] asks schema registries for the schemas. Package [herald/consumer/userrate] limits the rate of
// each user, and package [herald/consumer/spelling] finds what a misspelt name was meant to be, here and in other
// packages.
//
// # Lock order
//
// The documentation of package herald/stream has the one lock order of both packages, because a [Sink] is
// called with a lock of this package held. No lock is held while a request to a broker is under way.
//
// # What is not obvious
//
//   - kafka-go keeps connections and the group membership. The requests that decide exactness
//     (Fetch, ListOffsets, Metadata) use these connections with kmsg's encoding of newer
//     protocol versions. A fetch names its topic by id (KIP-516), so a broker refuses the fetch once the topic
//     was deleted and created again.
//   - A fetch by name, for a broker whose Fetch is older than version 13, would continue in the new topic at offsets
//     of the old one. So after each event that deleting a topic causes, live reading first fetches the last record
//     again that it has read (recreation.go). Replays wait meanwhile. A topic that has no id gets a local id: streams,
//     ranges, delivered positions and chunks are of the topic with that id until live reading finds another topic.
//   - Live reading starts at the end of the log, because streams get earlier records by replay, from their own
//     positions. Records shortly before the end are read too, for the tail alone (liveReader.lookBack).
//     Committed offsets show a lag in Kafka's tools; nothing starts from them. A partition that
//     appears while Herald runs is read from its start, because no stream can have seen it.
//   - Each replica is a consumer group of its own and reads every partition. The group's assignment decides
//     only which process commits a partition, so no record waits for the coordinator.
//   - Joins that come within 5 ms share a metadata request. A user's own topic is read for userLinger after
//     the last [Consumer.Leave], so that a client that reconnects finds the topic still being read.
//   - A topic that does not exist yet has its turn in the metadataSchedule. Thousands of such topics cost a
//     bounded part of Kafka's time.
//   - Records of partitions whose metadata is in doubt wait: liveReader.park takes the partition out of its
//     shard, because a partition with an error would end every fetch of the session at once.
//   - A partition waits for a schema rather than lose a record. The tail holds values as producers wrote them, so what
//     is read for the tail alone waits for no schema, unless the value names the user. A replay that meets such a record
//     ends there with [ErrNotReady], and is requested again.
//   - A broker reports the start of a log with its records. The tail drops records before the start, so records
//     that were deleted by request do not come back from memory.
//   - Delivered positions are committed offsets of a group without members, "<Group>.delivered". Kafka has no
//     conditional commit, so deliveredPositions checks later that no replica has moved its position back.
//   - A batch that fails its checksum, contradicts itself or would decompress to more than 128 MiB is fetched
//     three times, because another connection or another replica may return it intact. Live reading counts
//     each try as herald_kafka_errors_total{kind="unreadable"}, and the partition waits for new metadata
//     between tries while the other partitions continue. A replay tries again at once and counts one error.
//     After the last try, live reading reports a [Gap] with [GapUnreadable], and a replay ends with an
//     [UnreadableError]. One line of level ERROR has the topic, the partition and the offsets; replays log at
//     most one such line a second.
//   - Message sets of magic 0 and 1 are left out at once, because another fetch returns the same. Adjacent
//     message sets of one response are left out and counted together.
//
// # Measuring
//
// BenchmarkDrain measures reading one partition, BenchmarkWakeUp the time from produce to delivery with many
// topics, BenchmarkShortBesideLong short replays beside a long one. cmd/herald/bench/RESULTS.md has their figures and
// compares them with other clients.
package consumer
