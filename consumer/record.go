package consumer

import (
	"herald/consumer/batch"
	"herald/consumer/broker"
)

// Partition names one partition of one topic.
type Partition = broker.Partition

// Position is the place of one record in Kafka.
type Position struct {
	Partition
	Offset int64
}

// Header is one record header. Kafka allows several headers with the same key.
type Header = batch.Header

// Record is one Kafka record and its owner: the user, or the value of a claim, that it is for.
//
// Key, Value, User and the values of the headers are parts of the answer of a broker. They are valid only
// until the function that was given the record returns. If the route has a format, Value is what the producer wrote
// until [Record.Decode] is called.
type Record struct {
	batch.Record

	User      []byte // the user that the record is for, or with Claim the value of that claim; empty with Broadcast, or if the record names no owner
	Claim     string // the record is for all viewers whose claim of this name has the value User; empty: User is a user
	Broadcast bool   // the record is for everyone

	decoding *decoding // nil: the route has no format
}
