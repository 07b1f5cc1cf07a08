//go:build !(darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd)

package main

import "os"

// lockFile does nothing: this system has no flock(2).
func lockFile(*os.File) error { return nil }
