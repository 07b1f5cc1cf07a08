//go:build !linux

package stream

import "net"

// watcher cannot watch here: each connection has a goroutine that does ([connection.watch]).
type watcher struct{}

func (*watcher) add(net.Conn, *subscription) (forget func(), ok bool) { return nil, false }
func (*watcher) close()                                               {}
