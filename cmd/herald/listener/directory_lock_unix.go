//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package listener

import (
	"os"
	"syscall"
)

// lockDirectory locks a directory against other processes that call it, until release. Without the right to read the
// directory there is no lock.
func lockDirectory(path string) (release func()) {
	dir, err := os.Open(path) //nolint:gosec // the operator names the directory
	if err != nil {
		return func() {}
	}
	_ = syscall.Flock(int(dir.Fd()), syscall.LOCK_EX) // file systems without locks do without one
	return func() { _ = dir.Close() }
}
