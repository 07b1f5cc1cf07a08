package main

import (
	"fmt"

	"herald/cmd/herald/listener"
)

const (
	minOpenFiles  = 256 // the least limit of open files that a server starts with
	reservedFiles = 128 // open files that the public listener leaves to Kafka's connections, the admin listener and the rest
)

// checkFileLimit returns an error if the limit of open files is so low that a few clients would reach it.
func checkFileLimit() error {
	if n := listener.OpenFiles(); n < minOpenFiles {
		return fmt.Errorf("the limit of open files is %d, Herald needs %d and one more for each stream: raise it, with ulimit -Hn or LimitNOFILE= of systemd", n, minOpenFiles)
	}
	return nil
}
