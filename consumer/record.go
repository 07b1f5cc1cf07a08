package consumer

import (
	"slices"
	"time"

	"herald/consumer/broker"
)

// Partition names one partition of one topic.
type Partition = broker.Partition

// Position is the place of one record in Kafka.
type Position struct {
	Partition
	Offset int64
}

// Header is one record header. Kafka allows several with the same key.
type Header struct {
	Key   string
	Value []byte
}

// Record is one Kafka record together with the user it is for.
//
// A nil Key or Value is Kafka's null, which differs from an empty one: a null value is a
// tombstone. Key, Value, User and the headers' values point into the buffer the record was
// read into and are valid only until the function they were handed to returns.
type Record struct {
	Offset    int64
	Time      time.Time
	Key       []byte
	Value     []byte
	Headers   []Header
	User      []byte // whom the record is for; empty with Broadcast
	Broadcast bool   // the record is for everyone
}

// Header returns the value of the last header called key, as Kafka's own clients do, and
// whether there is one.
func (r *Record) Header(key string) ([]byte, bool) {
	for _, h := range slices.Backward(r.Headers) {
		if h.Key == key {
			return h.Value, true
		}
	}
	return nil, false
}
