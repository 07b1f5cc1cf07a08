//go:build unix

package stream

import "syscall"

// direct makes writes possible that do not wait.
func (o *connection) direct() {
	c, ok := o.Conn.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	o.raw = raw
	o.write = func(fd uintptr) bool {
		o.n, o.err = syscall.Write(int(fd), o.next)
		o.n = max(0, o.n)
		if o.err == syscall.EAGAIN || o.err == syscall.EINTR { //nolint:errorlint // as the system call returns them
			o.err = nil
		}
		return true // whatever it took
	}
}
