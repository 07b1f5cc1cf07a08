// Package tail is the client of event streams in `herald tail`: it follows one stream over any
// number of connections and prints its events.
//
//	tail.go           the client: connects, reconnects with a backoff, resumes from the last event id
//	refusal.go        which answers and errors another try would not change, and what to do about them
//	event_printer.go  events as text or JSON
//	event_reader.go   events of one connection, read from an io.Reader
//	block_reader.go   the parser of text/event-stream
//
// The parser is fed with the bytes that have arrived and allocates nothing for an event, because
// `herald bench` reads tens of thousands of streams with it.
package tail
