package stream

import (
	"net"
	"os"
	"sync"
	"syscall"
)

// watcher ends streams as soon as their clients close the connection. It needs no goroutine for each stream, which
// would take 2.5 KiB. It has an epoll instance of its own, and Go's poller reports when that has events.
type watcher struct {
	mu      sync.Mutex
	file    *os.File // the epoll instance; nil before the first stream and after close
	fd      int      // the file descriptor of file
	closed  bool
	watched []watched // by file descriptor
	ended   chan struct{}
}

// watched is the stream on a file descriptor. The number distinguishes it from a later stream on the same file
// descriptor.
type watched struct {
	sub    *subscription
	number int32
}

// watchConnection watches a connection. It returns false if it cannot. The caller must call forget before it
// closes the connection, or soon after the connection was cut.
func (w *watcher) watchConnection(conn net.Conn, sub *subscription) (forget func(), ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || w.file == nil && !w.start() {
		return nil, false
	}
	var failed error
	err := control(conn, func(fd int) {
		forget = func() { w.forget(fd, sub) }
		for fd >= len(w.watched) {
			w.watched = append(w.watched, watched{})
		}
		at := &w.watched[fd]
		at.sub, at.number = sub, at.number+1
		// Nobody reads the bytes that a client sends after its request. They stay in the kernel.
		event := syscall.EpollEvent{Events: syscall.EPOLLRDHUP | syscall.EPOLLONESHOT, Fd: int32(fd), Pad: at.number} //nolint:gosec // a file descriptor
		failed = syscall.EpollCtl(int(w.file.Fd()), syscall.EPOLL_CTL_ADD, fd, &event)
		if failed != nil {
			at.sub = nil
		}
	})
	return forget, err == nil && failed == nil
}

// forget stops watching the stream, unless a later stream already has the file descriptor.
func (w *watcher) forget(fd int, sub *subscription) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.watched[fd].sub == sub {
		w.watched[fd].sub = nil
	}
}

// control calls fn with the file descriptor of a connection.
func control(conn net.Conn, fn func(fd int)) error {
	c, ok := innermost(conn).(syscall.Conn)
	if !ok {
		return syscall.ENOTSUP
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Control(func(fd uintptr) { fn(int(fd)) })
}

// start opens the epoll instance. w.mu is held.
func (w *watcher) start() bool {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return false
	}
	if err := syscall.SetNonblock(fd, true); err != nil {
		_ = syscall.Close(fd)
		return false
	}
	w.file, w.fd, w.ended = os.NewFile(uintptr(fd), "epoll"), fd, make(chan struct{})
	raw, err := w.file.SyscallConn()
	if err != nil {
		_ = w.file.Close()
		w.file = nil
		return false
	}
	go w.run(raw)
	return true
}

// run ends the streams whose clients have closed the connection, until the watcher is closed.
func (w *watcher) run(raw syscall.RawConn) {
	defer close(w.ended)
	events := make([]syscall.EpollEvent, 256)
	for {
		n := 0
		err := raw.Read(func(fd uintptr) bool {
			var err error
			n, err = syscall.EpollWait(int(fd), events, 0)
			return n > 0 || err != nil && err != syscall.EINTR
		})
		if err != nil {
			return
		}
		for _, e := range events[:max(0, n)] {
			if sub := w.findSubscription(e); sub != nil {
				sub.end(errGone)
			}
		}
	}
}

func (w *watcher) findSubscription(e syscall.EpollEvent) *subscription {
	w.mu.Lock()
	defer w.mu.Unlock()
	if at := w.watched[e.Fd]; at.number == e.Pad {
		return at.sub
	}
	return nil
}

// close ends the watcher. It no longer ends the streams that it watched.
func (w *watcher) close() {
	w.mu.Lock()
	file := w.file
	w.file, w.closed = nil, true
	w.mu.Unlock()
	if file != nil {
		_ = file.Close()
		<-w.ended
	}
}
