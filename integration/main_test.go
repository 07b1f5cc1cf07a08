package integration

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if err := errors.Join(stopSharedBroker(), stopSharedCluster(), stopSecureBroker()); err != nil {
		fmt.Fprintln(os.Stderr, "stop kafka:", err)
		code = 1
	}
	removeBuilt()
	os.Exit(code)
}

// said holds the lines of notTested, so that each is printed once.
var said sync.Map

// requireDocker is the environment variable that makes a missing Docker engine a failure.
const requireDocker = "HERALD_REQUIRE_DOCKER"

// notTested skips the test because something is missing, or fails it if the environment variable
// require is 1. The line goes to stderr too: go test keeps the reason of a skip to itself.
func notTested(t *testing.T, require, line string) {
	t.Helper()
	if os.Getenv(require) == "1" {
		t.Fatalf("%s (%s=1 makes this a failure)", line, require)
	}
	if _, again := said.LoadOrStore(line, true); !again {
		fmt.Fprintf(os.Stderr, "NOT TESTED: %s\n", line)
	}
	t.Skip(line)
}
