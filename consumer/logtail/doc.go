// Package logtail keeps the newest records of many partitions in memory, with an index by user.
//
// A [Tail] serves clients that were away for a short time. Without it, a client that comes back makes
// Herald read all records that were written meanwhile, for all users. With it, the cost of a client that
// comes back depends on the client's own records alone.
//
// # Memory
//
// Live reading appends each record that it delivers. The records of all partitions lie in segments one
// after another, in the order in which they were read. When the segments exceed the limit, the oldest
// segment goes. So all partitions share the memory by age: the tail holds what was read during the last
// seconds or minutes, from busy partitions and from quiet ones.
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
// The bucket of an entry is a hash of its log and its user. [Log.Read] follows the addresses of one bucket
// from the newest entry back to the offset asked for, and then reads the entries in ascending order. An
// address that is older than the oldest segment ends the way, so nothing has to be removed from the index
// when a segment goes. Two users of one bucket cost each other time only, because an entry holds its user.
//
// An entry takes [entryHeader] bytes, the lengths of its fields, and its key, value and headers. The index
// is the address in the entry (8 bytes) and the hash (4 bytes) of each record, and one bucket (8 bytes) for
// each 128 bytes of the limit.
//
// # What a log holds
//
// A [Log] is the part of one partition's log that the tail holds: all records that a read_committed consumer
// sees from one offset to another, without a hole. A log begins anew, and forgets its records, where live
// reading leaves out records ([Log.Restart]). Each topic id (KIP-516) has logs of its own, so the records of
// a deleted topic never appear in the topic that was created after it.
//
// # Concurrency
//
// One lock guards the segments and the index. [Log.Read] holds it while it follows the index, and not
// while it decodes records and passes them on, because bytes of a segment never change once they are written.
package logtail
