package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	epollEvents = 256
	epollBuffer = 64 << 10
	stalledMSS  = 536 // small segments keep the server's kernel from buffering megabytes for a stalled stream
)

// epoll is the network for plain TCP on Linux. A few goroutines read all sockets, each goroutine into
// one buffer. So a stream needs neither a goroutine nor a buffer, and an event costs one read(2).
type epoll struct {
	address *net.TCPAddr
	loops   []*epollLoop
	done    sync.WaitGroup
}

// epollLoop reads the streams of one shard.
type epollLoop struct {
	shard   *shard
	streams []*client // of all shards, by index
	poll    int
	wake    int // an eventfd(2); a write to it ends the loop
}

// newEpoll starts a loop for each shard.
func newEpoll(address *net.TCPAddr, shards []*shard, streams []*client) (network, error) {
	n := &epoll{address: address}
	for _, sh := range shards {
		l, err := newEpollLoop(sh, streams)
		if err != nil {
			n.stop()
			return nil, fmt.Errorf("epoll: %w", err)
		}
		sh.loop = l
		n.loops = append(n.loops, l)
		n.done.Go(l.run)
	}
	return n, nil
}

func newEpollLoop(sh *shard, streams []*client) (*epollLoop, error) {
	poll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, errors.Join(err, unix.Close(poll))
	}
	l := &epollLoop{shard: sh, streams: streams, poll: poll, wake: wake}
	if err := unix.EpollCtl(poll, unix.EPOLL_CTL_ADD, wake, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: -1}); err != nil {
		return nil, errors.Join(err, l.close())
	}
	return l, nil
}

func (l *epollLoop) close() error { return errors.Join(unix.Close(l.poll), unix.Close(l.wake)) }

// socket is a connection's file descriptor.
type socket int

func (fd socket) Close() error { return unix.Close(int(fd)) }

func (n *epoll) connect(ctx context.Context, s *client, source net.IP, request []byte) error {
	fd, err := n.dial(ctx, source, s.stalled)
	if err != nil {
		return err
	}
	if count, err := unix.Write(fd, request); err != nil || count < len(request) {
		return errors.Join(os.NewSyscallError("write", err), errShort(count, len(request)), unix.Close(fd))
	}
	l := s.shard.loop.(*epollLoop)
	s.shard.mu.Lock()
	defer s.shard.mu.Unlock()
	s.beginLocked(socket(fd))
	event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(s.index), Pad: s.turn} //nolint:gosec // bounded by the file limit
	if err := unix.EpollCtl(l.poll, unix.EPOLL_CTL_ADD, fd, &event); err != nil {
		s.disconnectLocked()
		return os.NewSyscallError("epoll_ctl", err)
	}
	return nil
}

// errShort returns an error if only a part of the request was written. The empty buffer of a new socket
// takes a request whole.
func errShort(count, want int) error {
	if count < want {
		return errors.New("the socket took only a part of the request")
	}
	return nil
}

// dial returns a connected non-blocking socket.
func (n *epoll) dial(ctx context.Context, source net.IP, stalled bool) (int, error) {
	family, to := sockaddr(n.address)
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	if err := prepare(fd, source, stalled); err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	err = unix.Connect(fd, to)
	if errors.Is(err, unix.EINPROGRESS) || errors.Is(err, unix.EINTR) {
		err = waitConnected(ctx, fd)
	}
	if err != nil {
		return -1, errors.Join(os.NewSyscallError("connect", err), unix.Close(fd))
	}
	return fd, nil
}

// prepare sets the options that must be set before the connection is made.
func prepare(fd int, source net.IP, stalled bool) error {
	if stalled {
		if err := errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, stalledRead),
			unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_MAXSEG, stalledMSS)); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	if source == nil {
		return nil
	}
	// The kernel chooses the port when it knows the destination. A port chosen by bind(2) would be taken
	// for all destinations.
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	_, from := sockaddr(&net.TCPAddr{IP: source})
	return os.NewSyscallError("bind", unix.Bind(fd, from))
}

// waitConnected waits until the socket is connected. The error may be a [unix.Errno].
func waitConnected(ctx context.Context, fd int) error {
	for deadline := time.Now().Add(dialTimeout); ; {
		polled := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}} //nolint:gosec // a file descriptor
		count, err := unix.Poll(polled, 100)
		switch {
		case err != nil && !errors.Is(err, unix.EINTR):
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case count > 0:
			code, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
			if err == nil && code != 0 {
				err = unix.Errno(code)
			}
			return err
		case time.Now().After(deadline):
			return unix.ETIMEDOUT
		}
	}
}

func sockaddr(a *net.TCPAddr) (family int, addr unix.Sockaddr) {
	if ip := a.IP.To4(); ip != nil {
		return unix.AF_INET, &unix.SockaddrInet4{Port: a.Port, Addr: [4]byte(ip)}
	}
	return unix.AF_INET6, &unix.SockaddrInet6{Port: a.Port, Addr: [16]byte(a.IP.To16())}
}

// run reads the sockets until stop wakes it up.
func (l *epollLoop) run() {
	events := make([]unix.EpollEvent, epollEvents)
	buffer := make([]byte, epollBuffer)
	for {
		count, err := unix.EpollWait(l.poll, events, -1)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			l.shard.run.fail(os.NewSyscallError("epoll_wait", err))
			return
		}
		l.shard.mu.Lock()
		for _, event := range events[:count] {
			if event.Fd < 0 {
				l.shard.mu.Unlock()
				return
			}
			l.read(l.streams[event.Fd], event.Pad, buffer)
		}
		l.shard.mu.Unlock()
	}
}

// read reads a stream once. If the socket has more bytes, the next epoll_wait(2) returns it again.
func (l *epollLoop) read(s *client, turn int32, buffer []byte) {
	fd, ok := s.conn.(socket)
	if !ok || s.turn != turn {
		return
	}
	count, err := unix.Read(int(fd), buffer)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
		return
	}
	if err == nil && count == 0 {
		err = errCut
	}
	if count > 0 {
		err = s.receiveLocked(buffer[:count], time.Now().UnixNano())
	}
	switch {
	case err != nil:
		l.shard.handleEndLocked(s, err)
	case s.stalled && s.ready:
		_ = unix.EpollCtl(l.poll, unix.EPOLL_CTL_DEL, int(fd), nil)
	}
}

var errCut = errors.New("the connection was closed")

func (n *epoll) stop() {
	for _, l := range n.loops {
		_, _ = unix.Write(l.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	}
	n.done.Wait()
	for _, l := range n.loops {
		_ = l.close()
	}
	if len(n.loops) == 0 {
		return
	}
	for _, s := range n.loops[0].streams {
		s.shard.mu.Lock()
		s.disconnectLocked()
		s.shard.mu.Unlock()
	}
}
