// Package stream serves users' records as Server-Sent Events (WHATWG HTML, section 9.2).
//
// A [Hub] takes routed records from the consumer and queues them for the open streams of their
// users; a [Handler] serves those streams. An event's id is a cursor: how far the stream has come
// in each partition that feeds it (cursor.go, id.go).
//
// # Files
//
//	handler.go       requests to streams
//	start.go         where a stream begins
//	limit.go         how far back that may be, and where it is if Kafka tells late
//	client_stream.go       one stream: what it writes
//	catchup.go       how it is brought from its cursor to now
//	subscription.go  what others have to say to a stream
//	engine.go        who serves which stream when
//	roster.go        the streams that are open: limits, heartbeats, the end of all
//	end.go           why streams end
//	output.go        where a stream's bytes go; connection.go, watcher_linux.go, over HTTP/1 ...
//	large.go         events that streams share
//	hub.go           which records are for which streams
//	cursor.go, id.go how far a stream has come, and how ids say it
//	home.go          partitions that concern a user
//	longid.go        warnings of ids that are too long
//	event.go         the event stream format
//
// # Event ids
//
// Version 1:
//
//	id       = "1" [ "t" time ] *( "~" source )
//	source   = name incarnation *( "." partition [ "-" offset ] [ "t" ] )
//
// name is six characters of a hash of the topic's name, incarnation six of a hash of its topic id
// (KIP-516), both of [0-9a-v]; partition, offset and time are decimal, without leading zeros, and
// partitions ascend. offset is that of the last record considered. Of a partition without an offset
// nothing was considered: it is read from its start. So is one that is missing, unless the topic's route
// names its partitioner: then an id names all partitions that are the stream's, and those that are neither
// named nor homes of the user are not (home.go). A stream that began by the parameter since begins in
// partitions with "t" with the first record of time, in milliseconds since 1970, or later, with 0 with all,
// but Kafka has not told yet where that is: at the latest behind offset. Ids are made of [0-9a-z.~-] only.
// [ExplainID] reads them.
//
// An id names all topics of its stream, those that do not exist too. A stream that resumes from one that
// does not name a topic starts there at now and tells that by a gap (unknown-id). It may have been cut
// short, come from a replica with other routes, be one of [Hub.IDAfter], or have been longer than 48 KiB
// with that topic, which an id never is. Nobody can tell which, and a gap too many is better than a loss
// that is not told. Topics that the id names and the stream has not are passed over.
//
// Ids are never trusted: they say where to go on in the caller's own records and nothing else, and cost
// no more than what [Limits] allow to be replayed, whatever offset or incarnation they name.
//
// `go test -run '^$' -bench AppendID ./stream`: the id of an event of a stream over one topic, on one
// core, without an allocation.
//
//	50 partitions, each at an offset of 8 digits   604 bytes   818 ns
//	a home partition alone                          25 bytes    26 ns
//
// # The seam between replay and live
//
// A stream first registers with the hub and then reads each partition's position, under that
// partition's lock. Records before the position come by replay; records from it on are queued,
// because the hub delivers under the same lock. What is queued and lies before the cursor was
// replayed too and is dropped.
//
// Whatever else happens has one cure: the stream lets live records pass by, compares its cursor
// with the log and replays from there (clientStream.catchUp). It is so when the stream begins, when its
// queue is full, when partitions begin or are created again, when retention has overtaken the
// reader. So a loss is found from the client's own position and told in its terms, however the
// stream came to meet it. Partitions for which Kafka has no answer wait, while the others go on.
//
// # Who writes
//
// A stream over HTTP/1 is taken over from net/http once it is let in, and an idle one has no
// goroutine. Whoever has something for a stream (a record, a heartbeat, its end) leaves it with the
// subscription and has the engine serve it: one of a few workers writes what waits without waiting
// for the client, so that a burst leaves in one write and nobody waits for a slow client. A large event
// is not copied for each stream: a stream writes its id and then the shared event, and nothing in
// between (clientStream.large; clientStream.taken is what waits behind it). What must wait gets a goroutine for as long: a
// client that does not take all at once, replays, a new stream. A stream over HTTP/2 or TLS is written by
// such a goroutine always, and over HTTP/2 net/http keeps one more.
//
// A stream is served by one of them at a time, so that all but the subscription's own fields needs no
// lock, except while it waits for Kafka (clientStream.writing). Lock order: roster.mu, Hub.mu, partition.mu,
// subscription.mu, engine.mu, and larges.mu last; the lock of a consumer's replay before clientStream.writing.
//
// # How fast and small it is
//
// `go test -run '^$' -bench Deliver -benchtime 50x ./stream`: one event of 100 bytes to each stream,
// from the hub to a client process on the same two cores, beside a loop that does nothing but write
// the same bytes to as many sockets, one write(2) an event, in the same run.
//
//	                           of the bare loop's events  allocations an event
//	2,000 users                0.98 to 1.04               0.1
//	100 users of 100 streams   1.15 to 1.22               0.1
//	broadcast to 10,000        1.06 to 1.21               0.1
//
// The allocations are those of the benchmark's own waiting, and one for each record with an event
// type. More than 1 is where events for one stream leave in one write, and where workers on both cores
// share the writing better than the loop's two halves.
//
// `go test -run '^$' -bench Heartbeat ./stream`: CPU of one heartbeat of one of 100,000 streams, on one
// core, without its write(2) and without an allocation that lasts. A still topic's heartbeat is a comment;
// where other users' records have moved the position by 10,000 offsets (checkpointAfter) it is a
// checkpoint.
//
//	                 still    moved
//	 1 partition    0.9 us   1.4 us
//	 4 partitions   1.2 us   1.6 us
//	50 partitions   5.1 us   9.6 us
//
// With a heartbeat every 15 s, 100,000 streams over 50 partitions take 3 to 6 % of a core for these.
//
// `herald bench` measures a whole server; cmd/herald/bench/RESULTS.md has what it found.
//
// # How it is tested
//
// simulation_test.go runs the hub, the engine's steps and the streams against a model of Kafka, of
// replicas that know different parts of it and of clients that take what is written in parts and are
// cut at random bytes, and compares what each client got with the log. One seed is one history and
// replays exactly; it finds bugs that are planted. `make test` tries 3,000 histories, `make soak` as
// many as it is told.
package stream
