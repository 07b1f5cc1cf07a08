//go:build unix

package main

import (
	"fmt"
	"math"
	"syscall"
)

const (
	minOpenFiles  = 256 // the least limit a server starts with
	reservedFiles = 128 // for brokers, the admin listener and the rest: the public listener leaves them alone
)

// openFiles is how many files the process may have open. Go's os package has raised the soft limit to
// the hard one by now.
func openFiles() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return math.MaxInt32
	}
	return int(min(limit.Cur, math.MaxInt32))
}

// checkFileLimit refuses to start with a limit that would soon be met.
func checkFileLimit() error {
	if n := openFiles(); n < minOpenFiles {
		return fmt.Errorf("the limit of open files is %d, Herald needs %d and one more for each stream: raise it, with ulimit -Hn or LimitNOFILE= of systemd", n, minOpenFiles)
	}
	return nil
}
