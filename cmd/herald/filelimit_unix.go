//go:build unix

package main

import (
	"fmt"
	"syscall"
)

// minOpenFiles is the least limit of open files a server starts with: a stream takes one, a
// partition of the in-process broker two.
const minOpenFiles = 256

// checkFileLimit refuses to start with a limit that would soon be met. Go's os package has raised
// the soft limit to the hard one by now.
func checkFileLimit() error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("limit of open files: %w", err)
	}
	if limit.Cur < minOpenFiles {
		return fmt.Errorf("the limit of open files is %d, Herald needs %d and one more for each stream: raise it, with ulimit -Hn or LimitNOFILE= of systemd", limit.Cur, minOpenFiles)
	}
	return nil
}
