// Package integration tests the built herald binary on a real Apache Kafka, as producers and
// browsers use it. It has no code of its own.
//
// The tests share a Kafka container, a cluster of three for the faults of brokers, and a broker
// that authenticates its clients. Each starts when the first test needs it. Environment:
//
//   - HERALD_KAFKA_IMAGE: image of that container, default apache/kafka. Where no image registry
//     can be reached, deploy/kafka/build.sh makes herald/kafka:4.3.1.
//   - HERALD_TEST_BROKERS: host:port,… of a cluster that is there already, used instead of a
//     container. It must allow topics to be created. Tests that stop Kafka are skipped.
//   - HERALD_CHROMIUM, HERALD_FIREFOX, HERALD_MINIBROWSER: paths of browsers (the last is WebKitGTK's)
//     that are not where tests look.
//   - HERALD_REQUIRE_DOCKER=1, HERALD_REQUIRE_BROWSERS=1: fail, rather than skip, where Docker or one
//     of the three browsers is missing.
package integration
