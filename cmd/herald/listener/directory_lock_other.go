//go:build !darwin && !dragonfly && !freebsd && !linux && !netbsd && !openbsd

package listener

// lockDirectory does nothing on this system.
func lockDirectory(string) (release func()) { return func() {} }
