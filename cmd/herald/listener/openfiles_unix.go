//go:build unix

package listener

import (
	"math"
	"syscall"
)

// OpenFiles returns how many files the process may have open; [math.MaxInt32] where there is no
// limit. A Go program's start raises the soft limit to the hard limit, so this is the hard limit.
func OpenFiles() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return math.MaxInt32
	}
	return int(min(limit.Cur, math.MaxInt32))
}
