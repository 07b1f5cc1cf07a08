package integration

import (
	"fmt"
	"os"
	"sync"
	"testing"
)

// kafkaVersions are the versions of Apache Kafka that TestKafkaVersions runs, besides the version of kafkaImage. Each
// is the last of its kind: 2.7 has no ids of topics, 3.0 has ids in Metadata but not in Fetch, and 3.9 is the last
// before Kafka 4 removed old versions of requests.
var kafkaVersions = []string{"2.7.2", "3.0.2", "3.9.1"}

// sameOnAll matches the contract test of memory, which takes most of the time and depends on no version.
const sameOnAll = "^TestContractSmallBatchesTakeLittleMemory$"

// TestKafkaVersions runs herald and the contract tests on each version. The versions run at the same time, because the
// tests mostly wait.
func TestKafkaVersions(t *testing.T) {
	t.Parallel()
	if os.Getenv("HERALD_TEST_BROKERS") != "" {
		t.Skip("HERALD_TEST_BROKERS names the cluster to test on")
	}
	var versions sync.WaitGroup
	for _, version := range kafkaVersions {
		versions.Go(func() {
			t.Run(version, func(t *testing.T) {
				b := brokerOfVersion(t, version)
				t.Run("restarts", func(t *testing.T) { checkRestarts(t, b) })
				t.Run("contract", func(t *testing.T) { checkContract(t, b, sameOnAll) })
			})
		})
	}
	versions.Wait()
}

// brokerOfVersion starts a broker of a version, whose image deploy/kafka/build.sh builds.
func brokerOfVersion(t *testing.T, version string) *broker {
	t.Helper()
	b := &broker{image: "herald/kafka:" + version}
	if err := pull(b.image); err != nil {
		notTested(t, requireDocker, "Herald on Apache Kafka "+version+". Build its image by deploy/kafka/build.sh "+version+". "+err.Error())
	}
	b.startFor(t)
	return b
}

// checkRestarts writes records to all kinds of topics and publishes others through herald, kills herald while its
// client has not read all records, and kills Kafka under the open stream. The client must receive each record once.
func checkRestarts(t *testing.T, b *broker) {
	t.Helper()
	h, lanes, _ := startWithLanes(t, b, "--enable-publish")
	everyone := lanes[len(lanes)-1]
	alice := openStream(t, h, "alice")
	got, next := inOrder{}, 0
	write := func() {
		t.Helper()
		for _, l := range lanes[:len(lanes)-1] {
			b.produce(t, l.record(next))
		}
		publishTo(t, h, "/broadcast", fmt.Sprint(everyone.name, " ", next), everyone.topic)
		next++
	}
	read := func(records int) {
		t.Helper()
		for range records {
			got.add(t, alice.Record().Data)
		}
	}
	write()
	write()
	read(len(lanes) + 2) // and leave some records unread
	h.Kill()
	h.Start()
	write()
	alice.Reconnect()
	read(2*len(lanes) - 2)
	b.stop(t, 0)
	b.start(t)
	h.WaitReady()
	write()
	read(len(lanes))
	alice.Reconnect() // has missed nothing
	write()
	read(len(lanes))
	got.check(t, lanes, next)
}
