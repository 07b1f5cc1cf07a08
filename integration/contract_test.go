package integration

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestContract runs the contract tests of package consumer on Apache Kafka. The package itself runs them on an
// in-process broker.
func TestContract(t *testing.T) {
	b := sharedBroker(t)
	args := []string{"test", "-count=1", "-run=^TestContract", "-v"}
	if raceDetector {
		args = append(args, "-race")
	}
	command := exec.CommandContext(t.Context(), "go", append(args, "herald/consumer")...)
	command.Env = append(os.Environ(), "HERALD_TEST_BROKERS="+strings.Join(b.addresses, ","))
	out, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if passed := strings.Count(string(out), "--- PASS: TestContract"); passed < 10 {
		t.Errorf("%d parts of the contract were tested, want 10 or more:\n%s", passed, out)
	}
}
