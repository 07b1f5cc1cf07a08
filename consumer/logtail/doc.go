// Package logtail keeps the newest records of many partitions in memory, with an index by user.
//
// A [Tail] serves clients that return after a short time. Without it, Herald reads all records that were
// written in the meantime, for all users, when a client returns. With it, the cost of a returning client
// depends on the client's own records alone.
//
// # Memory
//
// Live reading appends each record that it reads. The records of all partitions are entries of the same
// segments, one after another, in the order in which they were read. When the segments exceed the limit, the
// tail drops the oldest segment. So all partitions share the memory by age: the tail holds the records read
// during the last seconds or minutes, from busy partitions and from quiet ones.
//
//	                 oldest                                       newest
//	segments       [ a a b a b ][ b a c a a ][ a b b a c ][ a b ·········· ]
//	                     ▲            │  ▲            │  ▲     │
//	                     └────────────┘  └────────────┘  └─────┘
//	                    each entry has the address of the entry before it in its bucket
//	                                                        ▲
//	buckets        [ · · · · · · · · · · · · · · · · · · · ·│· · · ]
//	                the address of the newest entry of each bucket
//
// A hash of an entry's log and user selects the entry's bucket. [Log.Read] follows the addresses of one
// bucket from the newest entry back to the offset asked for, and then passes on the user's entries in
// ascending order. It stops at an address that is older than the oldest segment. So the index needs no change
// when a segment is dropped. Two users of one bucket cost each other time, but no records, because each entry
// holds its user.
//
// A user is any owner of records: in the log of a topic with a claim, users are the values of the claim. [Log.Read] merges
// the entries of several of them.
//
// An entry takes [entryHeader] bytes, the lengths of its fields, and its key, value and headers. The user takes
// no bytes if it is the key. 12 of the header's bytes are for the index: the address of the entry before (8)
// and a part of the hash (4). The index also takes one bucket (8 bytes) for each 128 to 256 bytes of the limit.
//
// # What a log holds
//
// A [Log] is the part of one partition's log that the tail holds: all records that a read_committed consumer
// sees from one offset to another, without a hole. Where live reading leaves out records, the log forgets all
// of its records and begins again ([Log.Restart]). Each topic id (KIP-516) has logs of its own, so the records
// of a deleted topic never appear in the topic that was created after it.
//
// # Concurrency
//
// One lock guards the segments and the index. [Log.Read] holds it only while it follows the index. It decodes
// the entries and passes on the records without the lock: the bytes of an entry never change, and Tail.readers
// keeps the memory of a dropped segment from being used again during a call of Read.
package logtail
