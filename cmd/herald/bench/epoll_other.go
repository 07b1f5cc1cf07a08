//go:build !linux

package bench

import (
	"errors"
	"net"
)

// newEpoll fails: only Linux has epoll(7).
func newEpoll(*net.TCPAddr, []*shard, []*client) (network, error) { return nil, errors.ErrUnsupported }
