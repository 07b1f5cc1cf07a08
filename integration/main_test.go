package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"
)

func TestMain(m *testing.M) {
	if flood := os.Getenv(floodVariable); flood != "" {
		os.Exit(runFlood(flood))
	}
	// Ryuk is the container that removes the containers of testcontainers. The tests remove their
	// containers themselves, and without a registry there is no image of Ryuk.
	if _, set := os.LookupEnv(ryukDisabled); !set {
		_ = os.Setenv(ryukDisabled, "true")
	}
	removeOldNetworks()
	code := m.Run()
	if err := errors.Join(theBroker.value.remove(), theCluster.value.remove(), theSecureBroker.value.remove(), removeImage()); err != nil {
		fmt.Fprintln(os.Stderr, "remove containers and images:", err)
		code = 1
	}
	removeBuilt()
	os.Exit(code)
}

// removeOldNetworks removes the networks of test runs that were killed. Docker has addresses for about 30 networks, and
// refuses to create more. Without Docker there is nothing to remove.
func removeOldNetworks() {
	_ = exec.CommandContext(context.Background(), "docker", "network", "prune", "--force", "--filter", "label=org.testcontainers=true", "--filter", "until=1h").Run()
}

const ryukDisabled = "TESTCONTAINERS_RYUK_DISABLED"

// said holds the lines of notTested, so that each is printed once.
var said sync.Map

// requireDocker is the environment variable that makes a missing Docker engine a failure.
const requireDocker = "HERALD_REQUIRE_DOCKER"

// notTested skips the test because something is missing, or fails it if the environment variable require is 1. It
// writes the line to stderr and to the file that HERALD_TEST_SKIPS names, which make test prints. go test itself
// prints neither the reason of a skip nor the output of a package that passes.
func notTested(t *testing.T, require, line string) {
	t.Helper()
	if os.Getenv(require) == "1" {
		t.Fatalf("%s (%s=1 makes this a failure)", line, require)
	}
	if _, again := said.LoadOrStore(line, true); !again {
		fmt.Fprintf(os.Stderr, "NOT TESTED: %s\n", line)
		if err := appendLine(os.Getenv("HERALD_TEST_SKIPS"), "NOT TESTED: "+line); err != nil {
			t.Error(err)
		}
	}
	t.Skip(line)
}

// appendLine appends a line to the file. It does nothing if name is empty.
func appendLine(name, line string) error {
	if name == "" {
		return nil
	}
	f, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0) //nolint:gosec // the file that go test writes to
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(f, line)
	return errors.Join(err, f.Close())
}
