//go:build unix

package bench

import (
	"fmt"
	"runtime"
	"syscall"
)

// loopbackNetwork reports whether a connection can come from every address of 127.0.0.0/8.
const loopbackNetwork = runtime.GOOS == "linux"

// checkFileLimit returns an error if the streams need more open files than this process may have. Go's
// os package raises the soft limit to the hard limit when the process starts.
func checkFileLimit(streams int) error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("limit of open files: %w", err)
	}
	if uint64(streams+reserveFiles) > uint64(limit.Cur) { //nolint:gosec,unconvert,nolintlint // a number of streams; signed on some systems
		return fmt.Errorf("%d streams need %d open files and this process may have %d: raise the limit with ulimit -n, lower --streams, or start several herald bench, each with a --user-prefix of its own", streams, streams+reserveFiles, limit.Cur)
	}
	return nil
}

// cpuSeconds returns the CPU time that this process has used so far.
func cpuSeconds() float64 {
	var used syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &used) != nil {
		return 0
	}
	return float64(used.Utime.Nano()+used.Stime.Nano()) / 1e9
}
