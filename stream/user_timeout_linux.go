package stream

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// setUserTimeout makes the kernel close a connection whose peer acknowledges nothing for that long
// (TCP_USER_TIMEOUT, RFC 5482). Heartbeats fit into the send buffer, so a write would not notice.
func setUserTimeout(conn net.Conn, d time.Duration) {
	_ = control(conn, func(fd int) { // if this fails, the kernel gives up after a quarter of an hour
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds()))
	})
}
