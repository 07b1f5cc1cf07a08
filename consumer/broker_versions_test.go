package consumer

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// kafkaVariable is the environment variable that limits in-process brokers to the versions of requests of another
// broker, by a name that brokerVersions knows.
const kafkaVariable = "HERALD_TEST_KAFKA"

// brokerVersions returns the highest versions of requests that a broker speaks: of Apache Kafka, such as 2.1, or of
// another broker. It returns nil for an unknown name.
func brokerVersions(name string) *kversion.Versions {
	switch name {
	case "redpanda":
		return redpandaVersions()
	case "event-hubs": // what its users' clients logged in 2019; later logs have higher versions of everything but Fetch and Metadata
		return kversion.V1_0_0()
	}
	return kversion.FromString(name)
}

// redpandaVersions returns the versions of Redpanda 25.1, by the handlers in its source. Transactions are there too.
func redpandaVersions() *kversion.Versions {
	v := kversion.V2_8_0()
	for key, highest := range map[kmsg.Key]int16{
		kmsg.Produce: 7, kmsg.Fetch: 11, kmsg.ListOffsets: 4, kmsg.Metadata: 8,
		kmsg.OffsetCommit: 8, kmsg.OffsetFetch: 7, kmsg.FindCoordinator: 3,
		kmsg.JoinGroup: 6, kmsg.Heartbeat: 4, kmsg.LeaveGroup: 4, kmsg.SyncGroup: 4, kmsg.DescribeGroups: 5, kmsg.ListGroups: 4,
		kmsg.SASLHandshake: 1, kmsg.ApiVersions: 3, kmsg.SASLAuthenticate: 2,
		kmsg.CreateTopics: 6, kmsg.DeleteTopics: 5, kmsg.DeleteRecords: 2, kmsg.CreatePartitions: 3,
		kmsg.InitProducerID: 3, kmsg.OffsetForLeaderEpoch: 4, kmsg.AddPartitionsToTxn: 3, kmsg.AddOffsetsToTxn: 1, kmsg.EndTxn: 3, kmsg.TxnOffsetCommit: 3,
		kmsg.DescribeConfigs: 4, kmsg.AlterConfigs: 2, kmsg.IncrementalAlterConfigs: 1,
	} {
		v.SetMaxKeyVersion(key.Int16(), highest)
	}
	return v
}

// TestOtherBrokers runs the contract tests, each name in a process of its own, on an in-process broker that speaks the
// versions of another broker.
func TestOtherBrokers(t *testing.T) {
	if os.Getenv(kafkaVariable) != "" {
		t.Skip(kafkaVariable + " names the broker to test on")
	}
	for _, name := range []string{"redpanda", "event-hubs", "2.1"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			command := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestContract", "-test.v")
			command.Env = append(os.Environ(), kafkaVariable+"="+name, "HERALD_TEST_BROKERS=")
			out, err := command.CombinedOutput()
			if err != nil {
				t.Errorf("%v\n%s", err, out)
			}
			if passed := strings.Count(string(out), "--- PASS: TestContract"); passed < 10 {
				t.Errorf("%d parts of the contract were tested, want 10 or more:\n%s", passed, out)
			}
		})
	}
}
