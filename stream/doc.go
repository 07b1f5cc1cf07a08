// Package stream serves users' records as Server-Sent Events (WHATWG HTML, section 9.2).
//
// A [Hub] takes routed records from the consumer and queues them for the open streams of their
// users; a [Handler] serves those streams. An event's id is a cursor: how far the stream has come
// in each partition that feeds it (cursor.go, id.go).
//
// # The seam between replay and live
//
// A stream first registers with the hub and then reads each partition's position, under that
// partition's lock. Records before the position come by replay; records from it on are queued,
// because the hub delivers under the same lock. What is queued and lies before the cursor was
// replayed too and is dropped.
//
// Whatever else happens has one cure: the stream lets live records pass by, compares its cursor
// with the log and replays from there (feed.catchUp). It is so when the stream begins, when its
// queue is full, when partitions begin or are created again, when retention has overtaken the
// reader. So a loss is found from the client's own position and told in its terms, however the
// stream came to meet it. Partitions for which Kafka has no answer wait, while the others go on.
//
// Lock order: Hub.mu before partition.mu before subscription.mu.
//
// # How it is tested
//
// simulation_test.go runs the hub and the streams against a model of Kafka, of replicas that know
// different parts of it and of clients that are cut at random bytes, and compares what each client
// got with the log. One seed is one history and replays exactly; it finds bugs that are planted.
// `make test` tries 3,000 histories, `make soak` as many as it is told.
package stream
