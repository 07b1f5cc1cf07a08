//go:build !linux

package bench

import (
	"errors"
	"net"
)

// newEpoll has no epoll(7) to work with.
func newEpoll(*net.TCPAddr, []*shard, []*client) (network, error) { return nil, errors.ErrUnsupported }
