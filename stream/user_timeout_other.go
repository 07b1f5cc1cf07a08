//go:build !linux

package stream

import (
	"net"
	"time"
)

// setUserTimeout does nothing on this system. The kernel's own time-outs apply.
func setUserTimeout(net.Conn, time.Duration) {}
