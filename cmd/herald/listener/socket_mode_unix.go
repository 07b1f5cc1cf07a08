//go:build unix

package listener

import "syscall"

// setMode gives a socket its mode before it has a path (unix(7)), so that no other user can connect in between.
// Systems other than Linux ignore it.
func setMode(_, _ string, raw syscall.RawConn) error {
	return raw.Control(func(fd uintptr) { _ = syscall.Fchmod(int(fd), uint32(socketMode)) })
}
