// Package stream serves users' records as Server-Sent Events (WHATWG HTML, section 9.2).
//
// A [Hub] takes routed records from the consumer and queues them for the open streams of their users. A
// [Handler] serves those streams over HTTP. An event's id is a cursor: it says how far the stream has come
// in each partition, so a client resumes exactly where it was. PROTOCOL.md describes events, ids, gaps and
// guarantees for authors of clients.
//
// # The way of a live record
//
//  1. The consumer fetches a batch and calls [Hub.Deliver] with its records and the next offset.
//  2. Hub.queueRecordsLocked finds the subscriptions of the record's user. Hub.broadcastRecordsLocked visits all
//     readers of a broadcast topic, or of the value of a claim that the record is for (readerSet). Hub.decodeWanted has
//     decoded the values of a route with a format, for the streams that want them. Hub.encodeRecordLocked encodes the
//     event once for all streams of one shape, see shape.go.
//  3. subscription.pushRecord queues the event. If the stream is behind, or if the queue is full, it drops the
//     event, and a replay sends the record later. If the stream is not being served, pushRecord calls engine.schedule.
//  4. An engine worker calls clientStream.serveQuick. clientStream.gather takes the queue, and
//     clientStream.frameTaken moves the cursor after each record and appends the id and the event to the
//     eventWriter.
//  5. eventWriter.send passes the buffer to the output: connection.send writes to the socket without
//     waiting. The worker releases the stream if the client took everything. Otherwise a goroutine runs
//     clientStream.serveSlow, which waits for the client.
//  6. eventWriter.reportSentLocked reports the user's own records to Kafka.Delivered, and ends the spans of traced
//     records (trace.go). delays.endWrite counts how late the records are: delays.timesOf noted their times when the
//     hub got them.
//
// # The way of a replayed record
//
//  1. [Handler.Events] reads the request, registers the stream and runs clientStream.start.
//     clientStream.joinTopics waits for the user's topics and adds the subscription to the hub;
//     clientStream.begin sets the cursor from the id or from the parameter since.
//  2. catchUp.run lets live records in (subscription.acceptLiveRecords) and then reads the seam
//     ([Hub].seam): each partition's position, read under the partition's lock. The hub delivers under the
//     same lock. So the records before the seam come by replay, and all later records are queued.
//  3. catchUp compares the cursor with the logs: adoptIncarnation, updateHomes, checkPositions, applyLimits.
//  4. catchUp.replayOnce calls Kafka.Replay for everything between the cursor and the seam.
//  5. Kafka.Replay calls catchUp.replayRecord for each record: from the stream's goroutine if the record is in the
//     tail, from the goroutine of a pass over Kafka's log otherwise. replayRecord appends the event. It calls
//     eventWriter.trySend first if the buffer would exceed catchUpEnv.replayPiece bytes.
//  6. When the cursor has reached the seam, serveSlow takes the queue. It drops queued records before the cursor,
//     because the replay has sent them.
//
// Once, catchUp.meetLive appends the checkpoint that says that replay has met live: catchUp.isCurrent asks Kafka
// whether the logs end at the seam, and catchUp.hasReached whether the cursor has come there. If nothing was missed,
// this checkpoint takes the place of the first one. Otherwise clientStream.gather checks again each second.
//
// A stream catches up whenever something other than a record has happened: it begins, its queue is full,
// partitions appear or are created again, or retention has overtaken the reader. So each loss is found from
// the client's own cursor. Partitions for which Kafka has no answer wait; the others continue.
//
// A client learns of lost records by gap events, which start.go, catch_up.go and replay_limit.go append with
// eventWriter.appendGap. [Hub.Gap] only requests a catch-up, whose replay meets the same gap. A record that cannot be
// decoded is a gap of the streams that want it, which decode.go appends, live and by replay. A new reason is
// declared in consumer/gap.go, and listed in this package's metrics.go, in PROTOCOL.md and in deploy/OPERATING.md. If the consumer finds the loss, the replay must find it too: pass.failAt and Range.Err in
// consumer, catchUp.finishRange here.
//
// # Files
//
//	requests        handler.go (the only import of Echo; registers a stream), detach.go (the goroutine of
//	                an HTTP/2 request), query.go, request.go (the query parameters), accept.go (the format of the
//	                answer), viewer.go (the viewer's name), choice.go (the records that a stream sends), start.go,
//	                roster.go (limits, the heartbeats of quiet streams), drain.go (the end of all streams),
//	                end_reason.go (why a stream ends; why records are lost: consumer/gap.go)
//	one stream      client_stream.go (life cycle), poll.go (streams that end by themselves), live.go,
//	                met_live.go (when replay has met live), subscription.go (what others leave for it), engine.go
//	for operators   listing.go (the open streams), glance.go (the state of one), access_log.go, protocol.go
//	catching up     catch_up.go, catch_up_tally.go, replay_limit.go, home.go (partitions that concern a user)
//	writing         event_writer.go, heartbeat.go (while a stream waits for Kafka), event.go (format),
//	                shape.go (what a client asks for), fields.go (the record's other fields), encoding.go (an
//	                event in each shape, live and by replay), decode.go (records whose route has a format),
//	                large_event.go (shared events), trace.go (spans of traced records)
//	sockets         output.go, response.go (HTTP/2, and polls), json_answer.go (polls for JSON), connection.go,
//	                connection_write_*.go, user_timeout_*.go, watcher_*.go
//	all streams     hub.go, hub_streams.go (how streams enter and leave it), topic_readers.go (the streams that get
//	                the same records), membership.go (values of claims that viewers have), kafka.go, service.go
//	                (settings that all streams share, such as the interval of heartbeats), metrics.go, delay.go (how
//	                late live records are)
//	positions       cursor.go, id.go, long_id.go (a warning)
//
// The module for pages that read streams is in package stream/client.
//
// # Lock order
//
// This is the order for consumer and stream together. A goroutine that holds a lock
// takes only locks to the right of it.
//
//	live:       livePartition.mu → hubPartition.mu → Hub.mu → readerSet.mu → subscription.mu → engine.mu
//	                               hubPartition.mu → Hub.mu → readerSet.mu → larges.mu
//	ends:       roster.mu → subscription.mu → engine.mu
//	            roster.mu → response.mu
//	replay:     replay.mu → eventWriter.mu → deliveredPositions.mu → topicRegistry.mu
//	            replay.mu → eventWriter.mu → subscription.mu
//	            replay.mu → larges.mu
//	            waiters.mu → replay.mu (the goroutine that writes does not hold waiters.mu)
//	live reads: livePartition.mu → liveReader.mu
//	            livePartition.mu → topicRegistry.mu
//	            livePartition.mu → logtail.Tail.mu
//	tables:     livePartition.mu → tableSink.mu
//	            livePartition.mu and replay.mu → the locks of a Table. The server's table, the revocations,
//	            ends streams: → roster.mu → auth.Revocations.mu
//
// The other locks of this package (watcher.mu, longIDs.mu), of consumer (chunkCache.mu, brokerLog.mu,
// Homes.mu, TableReader.mu) and of consumer/format are held over no call into another part.
// A replay only tries to take eventWriter.mu, so a pass over a log never waits for a client. No lock but
// eventWriter.mu is held over a write that waits for a client. No lock of consumer is held while a request to a
// broker is under way. No lock of consumer is held while the tail's records are replayed.
//
// # What is not obvious
//
//   - An idle stream over HTTP/1 has no goroutine and no buffer. Handler.Events takes the connection over from
//     net/http; watcher_linux.go notices by epoll that a client has gone.
//   - One goroutine at a time serves a stream, from subscription.serveLocked until subscription.release. So
//     most fields of clientStream need no lock.
//   - A listing reads the fields of a stream although they need no lock: only while no goroutine serves the stream,
//     or while its goroutine waits for the client (clientStream.look).
//   - Positions for a heartbeat are read before the queue is taken (clientStream.gather). Otherwise the
//     cursor could move over a record that is delivered in between.
//   - A new subscription takes no live record until the cursor was compared with the log: the record would
//     move the cursor over records that a replay is to bring.
//   - [Hub.Gap] requests catch-ups before it moves the position. Otherwise a stream could follow the position
//     over the gap.
//   - A user, a value of a claim and the same value of another claim are three owners: the hub has users and values in
//     maps of their own, by claim and value. Logs need no such key: all records of a topic have owners of one kind, and a
//     range of a replay names the values whose records it wants (consumer.Range.Values), or means the user.
//   - A stream whose viewer has no value of a topic's claim does not have the topic: its ids do not name it. The values do
//     not change during a stream. If a client returns with other values, its position stays: from there on it gets the
//     records of its present values.
//   - A broadcast to many streams takes long. It holds the lock of its partition, and the lock of the readers
//     for a few of them at a time, but not the lock of the hub. Only streams that catch up wait for it, because
//     they need the seam.
//   - A large event is in memory once, however many streams wait to send it. Its lines follow its id at once:
//     see the states of eventWriter.
//   - Ids are not trusted. They say where to continue in the caller's own records; what they cost is bounded
//     by [Limits].
//   - A stream over HTTP/2 or TLS has a goroutine whenever it writes, and over HTTP/2 net/http keeps another.
//     [Detach] keeps the stack of that other one small.
//
// The linter's depguard rules in .golangci.yml say which package may import which.
//
// # Measuring and testing
//
// BenchmarkDeliver, BenchmarkHeartbeat, BenchmarkAppendID and BenchmarkDelays measure delivery, heartbeats, ids and
// histograms. BenchmarkManyStreams measures what a stream costs among a million. The figures are in
// cmd/herald/bench/RESULTS.md. TRANSPORTS.md compares streams with WebSocket and polling.
//
// simulation_test.go runs the hub, the streams and the engine's steps against a model of Kafka, of replicas
// that know different parts of it, and of clients that are cut at random bytes. It compares what each client
// received with the log. A seed replays one history exactly. `make test` runs 3,000 histories.
package stream
