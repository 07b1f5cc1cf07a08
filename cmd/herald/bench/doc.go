// Package bench is the load tool behind `herald bench`: it opens many streams of a Herald, writes
// records for them to Kafka, and measures.
//
// It shares the machine with what it measures more often than not, so it is cheap: see epoll_linux.go
// for how streams are read. Events are counted exactly: each record's value has its number in its
// user's sequence, and each stream knows which numbers it has had.
//
// # Files
//
//	bench.go        one measurement after the other
//	config.go       what to measure
//	report.go       what was measured
//	run.go          a server with its streams: opening, opening again
//	wait.go         waiting for what must come; how much has come
//	stream.go       one client
//	shard.go        a part of the streams, and what is counted of them
//	network.go      connections: a goroutine for each
//	epoll_linux.go  connections: a few goroutines for all
//	response.go     HTTP/1.1 responses that are pushed in pieces
//	events.go       event streams that are pushed in pieces
//	value.go        what stands in a record
//	tally.go        exact counting
//	produce.go      writing to Kafka
//	stalled.go      streams that are not read
//	server.go       memory, processor time and metrics of the server
//	bare.go         a bare loop of writes, for comparison
package bench
