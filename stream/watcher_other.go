//go:build !linux

package stream

import "net"

// watcher cannot watch here: each connection has a goroutine that does ([connection.watchForEnd]).
type watcher struct{}

func (*watcher) watchConnection(net.Conn, *subscription) (forget func(), ok bool) { return nil, false }
func (*watcher) close()                                                           {}
