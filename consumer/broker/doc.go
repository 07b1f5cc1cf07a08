// Package broker connects to the brokers of a Kafka cluster and sends them single requests.
//
// [Cluster] is the whole of it. kafka-go's Transport dials, speaks TLS and SASL and keeps idle connections;
// the caller chooses the SASL mechanism. The requests and responses on these connections are encoded by
// kmsg, because kmsg knows protocol versions that kafka-go does not, and Herald's exactness rests on them.
//
// # Files
//
//	cluster.go    connecting to a cluster, checking its version
//	request.go    a request to one broker, to any broker, to a group's coordinator
//	wire.go       a response as bytes, read within bounds
//	advice.go     which flag to change if connecting fails
//	explain.go    which address failed, and where it comes from
//	roster.go     the brokers of the cluster, which to ask first, which do not answer
//	metadata.go   the ids and leaders of topics
//	offsets.go    the start and the end of partitions
//	group_conn.go connections for kafka-go's consumer group
//	partition.go  a topic and a partition's number
//
// # Protocol versions
//
// Each request has one version; Herald does not negotiate. All of them together need Apache Kafka 3.1,
// and [Cluster.CheckVersion] recognizes an older broker by the version of Fetch alone, the last to appear.
//
//	Fetch v13            Kafka 3.1  names topics by id (KIP-516) and keeps sessions (KIP-227)
//	Metadata v10         Kafka 2.8  returns topics' ids (KIP-516)
//	ListOffsets v7       Kafka 3.0  has an isolation level (KIP-98)
//	FindCoordinator v2   Kafka 2.0
//	ApiVersions v0       every version
//
// The ids matter: a broker refuses a fetch by id once the topic was deleted and created again. A fetch
// by name would continue at the offsets of the old topic in the records of the new one.
//
// The versions of other requests (Produce, OffsetCommit, OffsetFetch) stand where the requests are made.
//
// # Brokers that do not answer
//
// A broker can be unreachable in two ways. If it refuses connections, each request to it fails at once.
// If it hangs, or packets to it are lost, each request takes its whole time. Two rules keep such brokers
// from slowing everybody down:
//
//   - A request that any broker can answer goes to one broker after the other, with a third of
//     [RequestTimeout] for each. A broker that did not answer is asked last for 30 s ([Cluster.RequestAny]).
//   - A broker that let a request time out, and answered none since, does not get requests whose callers
//     can try again later, for twice RequestTimeout ([Cluster.CheckAnswering]).
package broker
