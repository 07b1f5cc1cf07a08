//go:build !linux

package stream

import "net"

// watcher does nothing on this system. A goroutine for each connection watches instead
// ([connection.watchForEnd]).
type watcher struct{}

func (*watcher) watchConnection(net.Conn, *subscription) (forget func(), ok bool) { return nil, false }
func (*watcher) close()                                                           {}
