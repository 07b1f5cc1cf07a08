// Package broker connects to the brokers of a Kafka cluster and sends them single requests.
//
// [Cluster] is the whole of it. kafka-go's Transport keeps idle connections. Cluster opens them: it speaks TLS, asks the
// broker for its versions, and logs in by the SASL mechanism that the caller chooses. The requests and responses on these connections are encoded by
// kmsg, because kmsg knows protocol versions that kafka-go does not, and Herald's exactness rests on them.
//
// # Files
//
//	cluster.go    connecting to a cluster
//	versions.go   which version of a request is sent; brokers that lack one
//	request.go    a request to one broker, to any broker, to a group's coordinator
//	wire.go       a response as bytes, read within bounds
//	fetch_counts.go a response to a fetch that claims more than it holds
//	login.go      the log-in on a new connection, and its renewal
//	renew.go      when a connection renews its log-in
//	refusal.go    a broker that refuses a log-in
//	advice.go     which flag to change if connecting fails
//	explain.go    which address failed, and where it comes from
//	roster.go     the brokers of the cluster, which to ask first, which do not answer
//	metadata.go   the ids and leaders of topics, and the rights on them
//	inspect.go    the brokers of the cluster, and the rights on groups
//	offsets.go    the start and the end of partitions
//	dial.go       opening a connection, for kafka-go's Transport and for its consumer group
//	checked_conn.go keeps corrupt responses away from kafka-go
//	partition.go  a topic and a partition's number
//
// # Versions of requests
//
// [Cluster] asks each broker for the versions it speaks when it opens a connection, and sends each request in the
// highest version that both sides speak (spoken, in versions.go). Brokers of one cluster may differ, for example
// during an upgrade. [Cluster.CheckVersions] finds a broker that Herald can never read from, and names the requests.
//
// The ids of topics matter most (Fetch v13 and Metadata v10, KIP-516): a broker refuses a fetch by id once the topic
// was deleted and created again. A fetch by name continues at the offsets of the old topic in the records of the new
// one, so the caller has to find that out. A fetch has ids and names. [FetchByName] limits a fetch of topics whose ids
// are not known.
//
// # Log-ins
//
// A broker with connections.max.reauth.ms, or whose tokens end, says at a log-in how long it lasts (KIP-368). Herald logs
// in again on the same connection after 85 to 95 % of that time, before the next request and after the response to
// the last one ([Cluster.Renewals]). kafka-go would let the broker close the connection. Streams notice nothing of either
// log-in: a mechanism that takes long to start, for example because a token endpoint is slow, delays a request for at
// most startPatience while the old log-in lasts.
//
// # Corrupt responses
//
// Kafka's checksum covers the records of a batch, and nothing else of a response. Without TLS, a bit that a
// faulty machine or network flips arrives as another length, count, id or offset. So checkedConn decodes a
// response before kafka-go does, and each request has another correlation id. What a response says beyond
// that is for the caller to doubt: see topicState.mustConfirmLocked and livePartition.confirms in consumer.
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
