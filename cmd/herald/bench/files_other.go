//go:build !unix

package bench

// loopbackNetwork reports whether a connection can come from every address of 127.0.0.0/8.
const loopbackNetwork = false

// checkFileLimit does nothing: only Unix systems limit the open files of a process.
func checkFileLimit(int) error { return nil }

// cpuSeconds returns 0: this system does not report the CPU time.
func cpuSeconds() float64 { return 0 }
