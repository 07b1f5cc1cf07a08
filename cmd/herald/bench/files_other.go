//go:build !unix

package bench

// loopbackNetwork tells whether all of 127.0.0.0/8 can be connected from.
const loopbackNetwork = false

// checkFileLimit has nothing to check: the limit is one of Unix systems.
func checkFileLimit(int) error { return nil }

// cpuSeconds is not known.
func cpuSeconds() float64 { return 0 }
