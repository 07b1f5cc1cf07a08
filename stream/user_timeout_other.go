//go:build !linux

package stream

import (
	"net"
	"time"
)

// setUserTimeout does nothing here: the kernel's own time-outs hold.
func setUserTimeout(net.Conn, time.Duration) {}
