package stream

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// setUserTimeout has the kernel close a connection whose peer acknowledges nothing for so long
// (TCP_USER_TIMEOUT, RFC 5482): a heartbeat fits into its buffer, so that no write would ever fail.
func setUserTimeout(conn net.Conn, d time.Duration) {
	_ = control(conn, func(fd int) { // without it the kernel gives up after a quarter of an hour
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds()))
	})
}
