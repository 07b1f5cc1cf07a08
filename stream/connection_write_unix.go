//go:build unix

package stream

import "syscall"

// direct prepares writes that do not wait.
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
		if o.err == syscall.EAGAIN || o.err == syscall.EINTR { //nolint:errorlint // a system call returns these unwrapped
			o.err = nil
		}
		return true // done, however many bytes the kernel took
	}
}
