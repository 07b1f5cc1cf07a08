package consumer

import (
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestMain runs the tests, and fails the package if a goroutine is left afterwards. It waits for goroutines
// to end, because a fetch that was given up ends only when the broker answers, and a goroutine may wait for a CPU. In the
// process that brokerProcess starts, TestMain runs the broker instead.
func TestMain(m *testing.M) {
	if spec := os.Getenv(brokerVariable); spec != "" {
		if err := runBrokerProcess(spec); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	code := m.Run()
	for deadline := time.Now().Add(20 * time.Second); code == 0; time.Sleep(50 * time.Millisecond) {
		err := goleak.Find()
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}
