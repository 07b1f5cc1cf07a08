// Package integration tests the built herald binary on Apache Kafka, as producers and browsers use it. The package
// consists of tests only.
//
// First the tests that measure, or that stop what others share, run one after the other. Tests that mostly wait then run
// in parallel (t.Parallel), two at a time on two processors. The tests of the cluster are one of them: [TestCluster].
//
// The tests share a Kafka container, a cluster of three for the faults of brokers, and a broker
// that authenticates its clients. Each starts when the first test needs it. Environment:
//
//   - HERALD_KAFKA_IMAGE: image of that container, default apache/kafka. On machines that
//     cannot reach an image registry, deploy/kafka/build.sh builds herald/kafka:4.3.1. The script also
//     builds the images of older versions, which TestKafkaVersions uses.
//   - HERALD_TEST_BROKERS: host:port,… of a running cluster, which the tests use instead of a
//     container. The cluster must allow the creation of topics. Tests that stop Kafka are skipped.
//   - HERALD_CHROMIUM, HERALD_FIREFOX, HERALD_MINIBROWSER: paths of browsers (the last is WebKitGTK's)
//     that the tests do not find themselves.
//   - HERALD_REQUIRE_DOCKER=1, HERALD_REQUIRE_BROWSERS=1 and others: fail, rather than skip, where Docker, one of the
//     three browsers, or another tool is missing. README.md lists them.
package integration
