package broker

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain fails the package if a goroutine is left when its tests are done.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}
