package main

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// TestMain is the program where a test has it started as a child; else it fails the tests if one of them leaves a goroutine running.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "bench-child" {
		main()
	}
	goleak.VerifyTestMain(m)
}
