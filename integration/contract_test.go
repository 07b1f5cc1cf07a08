package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// TestContract runs the contract tests of package consumer on Apache Kafka. The package itself runs them on an
// in-process broker. TestKafkaVersions runs them on older versions.
func TestContract(t *testing.T) {
	t.Parallel() // mostly it waits
	checkContract(t, sharedBroker(t), "")
}

// checkContract runs the contract tests of package consumer on the broker, except the tests whose names skip matches.
func checkContract(t *testing.T, b *broker, skip string) {
	t.Helper()
	binary, err := contractTests()
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), binary, "-test.run=^TestContract", "-test.skip="+skip, "-test.v", "-test.timeout=10m")
	command.Dir = "../consumer"
	command.Env = append(os.Environ(), "HERALD_TEST_BROKERS="+strings.Join(b.addresses, ","))
	out, err := command.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if passed := strings.Count(string(out), "--- PASS: TestContract"); passed < 10 {
		t.Errorf("%d parts of the contract were tested, want 10 or more:\n%s", passed, out)
	}
}

// contractTests compiles the tests of package consumer once, and returns the path of the binary.
var contractTests = sync.OnceValues(func() (string, error) {
	directory, err := builtDirectory()
	if err != nil {
		return "", err
	}
	binary := filepath.Join(directory, "consumer.test")
	args := []string{"test", "-c", "-o", binary}
	if raceDetector {
		args = append(args, "-race")
	}
	build := exec.Command("go", append(args, "herald/consumer")...) // go test's time-out bounds it
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the tests of consumer: %w\n%s", err, out)
	}
	return binary, nil
})
