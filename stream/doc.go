// Package stream serves users' records as Server-Sent Events (WHATWG HTML, section 9.2).
//
// A [Hub] takes routed records from the consumer and queues them for the open streams of their
// users; a [Handler] serves those streams. An event's id is a cursor: how far the stream has come
// in each partition that feeds it (id.go).
//
// # The seam between replay and live
//
// A stream first registers with the hub and then reads each partition's position, under that
// partition's lock. Records before the position come by replay; records from it on are queued,
// because the hub delivers under the same lock. What is queued and lies before the cursor was
// replayed too and is dropped. When the queue is full the stream lets live records pass by, sends
// what it has, and does the same again: registers, reads positions, replays.
//
// Lock order: Hub.mu before partition.mu before subscription.mu.
package stream
