package consumer

import (
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestMain fails the package if a goroutine is left when its tests are done. A fetch that was given up
// ends when the broker answers, so the check waits.
func TestMain(m *testing.M) {
	code := m.Run()
	for deadline := time.Now().Add(2 * quietMaxWait); code == 0; time.Sleep(50 * time.Millisecond) {
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
