package stream

import (
	"net"
	"os"
	"sync"
	"syscall"
)

// watcher tells streams when their clients have gone, at once and without a goroutine for each, which
// would take 2.5 KiB: an epoll instance of its own, of which Go's poller says when to look into it.
type watcher struct {
	mu      sync.Mutex
	file    *os.File // of the epoll instance; nil until the first stream and once closed
	fd      int      // file's
	closed  bool
	watched []watched // by file descriptor
	ended   chan struct{}
}

// watched is the stream on a file descriptor. Another number tells it from a later stream on the same
// one.
type watched struct {
	sub    *subscription
	number int32
}

// watchConnection watches a connection; it returns false if it cannot. forget is to be called before the connection
// is closed, or soon after it was cut.
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
		// What a client says behind its request is not read: it stays with the kernel.
		event := syscall.EpollEvent{Events: syscall.EPOLLRDHUP | syscall.EPOLLONESHOT, Fd: int32(fd), Pad: at.number} //nolint:gosec // a file descriptor
		failed = syscall.EpollCtl(int(w.file.Fd()), syscall.EPOLL_CTL_ADD, fd, &event)
		if failed != nil {
			at.sub = nil
		}
	})
	return forget, err == nil && failed == nil
}

// forget lets go of the stream, unless another one has its file descriptor already.
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

// start is called with w.mu held.
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

// run ends the streams whose clients have gone, until the watcher is closed.
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

// close ends the watcher; streams that it watches are not told any more.
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
