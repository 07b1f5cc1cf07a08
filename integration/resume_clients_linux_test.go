package integration

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// resumeClients are the clients of the benchmarks of resumes. One goroutine serves all of them by epoll(7), so that
// they leave the machine's CPU to the server. They parse of an event no more than the two numbers that say whose
// record it is and which one.
type resumeClients struct {
	server  *benchServer
	address unix.SockaddrInet4
	poll    int
	clients []*resumeClient
	buffer  []byte
	events  [64]unix.EpollEvent
	bodies  [][]byte // buffers of clients that have read all
	begun   int      // clients whose streams have begun since resume was called
	done    int      // clients that have become done since then
}

func newResumeClients(server *benchServer, users ...int) (*resumeClients, error) {
	address, err := net.ResolveTCPAddr("tcp4", server.address)
	if err != nil {
		return nil, err
	}
	poll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create", err)
	}
	r := &resumeClients{server: server, poll: poll, buffer: make([]byte, 64<<10)}
	r.address.Port = address.Port
	copy(r.address.Addr[:], address.IP.To4())
	for i, user := range users {
		r.clients = append(r.clients, &resumeClient{index: i, user: user, fd: -1})
	}
	return r, nil
}

// cut resets the connections of the clients.
func (r *resumeClients) cut(clients ...*resumeClient) {
	for _, c := range clients {
		if c.fd >= 0 {
			_ = unix.SetsockoptLinger(c.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
			_ = unix.Close(c.fd)
		}
		*c = resumeClient{index: c.index, user: c.user, fd: -1, position: c.position, next: c.next, end: c.end}
	}
}

func (r *resumeClients) close() {
	r.cut(r.clients...)
	_ = unix.Close(r.poll)
}

// resume connects the clients and reads until each has all of its records. At most limit of them are being opened at
// a time: a client makes room for another one when its stream has begun, with an event of any kind.
func (r *resumeClients) resume(limit int, clients ...*resumeClient) error {
	r.begun, r.done = 0, 0
	deadline := time.Now().Add(5 * time.Minute)
	for opened := 0; r.done < len(clients); {
		for ; opened < len(clients) && opened-r.begun < limit; opened++ {
			if err := r.connect(clients[opened]); err != nil {
				return fmt.Errorf("%s connects: %w", user(clients[opened].user), err)
			}
		}
		arrived, err := r.read(patience)
		if err != nil {
			return err
		}
		if !arrived || time.Now().After(deadline) {
			return fmt.Errorf("only %d of %d clients have their records", r.done, len(clients))
		}
	}
	return nil
}

// connect opens the client's stream at its position.
func (r *resumeClients) connect(c *resumeClient) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	c.fd = fd
	if n := len(r.bodies); n > 0 {
		c.body, r.bodies = r.bodies[n-1], r.bodies[:n-1]
	}
	if err := unix.Connect(fd, &r.address); err != nil {
		return os.NewSyscallError("connect", err)
	}
	if _, err := unix.Write(fd, []byte(r.server.protocol.request(c, r.server.address))); err != nil {
		return os.NewSyscallError("write", err)
	}
	event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(c.index)}
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(r.poll, unix.EPOLL_CTL_ADD, fd, &event))
}

// read reads what has arrived, or waits until something arrives. It returns false if nothing has arrived in time.
func (r *resumeClients) read(wait time.Duration) (arrived bool, err error) {
	n, err := unix.EpollWait(r.poll, r.events[:], int(wait.Milliseconds()))
	if err != nil && !errors.Is(err, unix.EINTR) {
		return false, os.NewSyscallError("epoll_wait", err)
	}
	for _, event := range r.events[:max(n, 0)] {
		c := r.clients[event.Fd]
		begun, done := c.begun, c.done
		if err := r.receive(c); err != nil {
			return false, fmt.Errorf("stream of %s: %w", user(c.user), err)
		}
		if c.begun && !begun {
			r.begun++
		}
		if c.done && !done {
			r.done++
		}
	}
	return n != 0, nil
}

// receive reads from the client's connection once, and returns an error if a record is missing, comes twice or is
// another user's.
func (r *resumeClients) receive(c *resumeClient) error {
	n, err := unix.Read(c.fd, r.buffer)
	if err != nil {
		return os.NewSyscallError("read", err)
	}
	if n == 0 {
		return errors.New("the server has ended the stream")
	}
	if err := c.parseChunks(r.buffer[:n]); err != nil {
		return err
	}
	if err := c.parseRecords(); err != nil {
		return err
	}
	if spare := c.finish(&r.server.protocol); spare != nil {
		r.bodies = append(r.bodies, spare)
	}
	return nil
}
