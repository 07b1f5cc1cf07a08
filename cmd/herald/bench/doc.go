// Package bench is the load tool of `herald bench`: it opens many streams of a Herald server, writes
// records for them to Kafka, and measures.
//
// The tool usually shares the machine with the server that it measures, so it must need little CPU:
// epoll_linux.go says how it reads streams. It counts events exactly: the value of each record holds
// the record's number in its user's sequence, and each stream knows which numbers it has received.
//
// # Files
//
//	bench.go        the phases of a measurement, in their order
//	config.go       the settings of a measurement
//	report.go       its results
//	run.go          the streams: opens them, and opens them again
//	wait.go         waits for events; counts them over all streams
//	client.go       one stream
//	shard.go        a part of the streams, and their counters
//	network.go      connections, with a goroutine for each
//	epoll_linux.go  connections, with a few goroutines for all of them
//	response.go     parses an HTTP/1.1 response that arrives in pieces
//	value.go        the value of a record
//	tally.go        exact counting of a sequence
//	produce.go      writes records to Kafka
//	sasl.go         authentication to Kafka
//	stalled.go      streams that are never read
//	server.go       memory, CPU and metrics of the server
//	self.go         a broker and a server as child processes
//	bare.go         a bare loop of writes, for comparison
//
// Package tail has the parser of event streams.
package bench
