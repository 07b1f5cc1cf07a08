// Package login has the SASL mechanisms by which Herald logs in to Kafka and which kafka-go does not have: [Bearer]
// (OAUTHBEARER) and [IAM] (AWS_MSK_IAM). It also has [Replaceable], whose mechanism a reload replaces. All of them are
// mechanisms of kafka-go.
//
// Package consumer/broker calls Start for each log-in: when a connection opens, and again before a session of the broker
// ends (KIP-368). A [Bearer] takes its token from a [Source] each time: a [File], which is read for each log-in, or an
// [Endpoint], whose token all connections share (renewed.go). An [IAM] takes its credentials from the AWS SDK, which keeps
// and renews them.
//
// An error of a mechanism names the flag that it comes from. Advice says which flags may help when the broker refuses a
// log-in, because only the mechanism knows them.
package login
