//go:build linux

package stream

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"herald/consumer"
	"herald/consumer/batch"
)

// benchEvent is about the size of a notification, in bytes.
const benchEvent = 100

// readers is a child process that opens streams and reads them with as little CPU as possible.
type readers struct {
	b     *testing.B
	bytes atomic.Int64
}

// openReaders opens count streams. Each stream's number replaces %d in the path.
func openReaders(b *testing.B, address, path string, count int) *readers {
	b.Helper()
	command := exec.CommandContext(b.Context(), os.Args[0], "-test.run=^TestReaderProcess$")
	command.Env = append(os.Environ(), "HERALD_BENCH_READERS="+strings.Join([]string{address, path, strconv.Itoa(count)}, " "))
	command.Stderr = os.Stderr
	out, err := command.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := command.Start(); err != nil {
		b.Fatal(err)
	}
	r := &readers{b: b}
	done := make(chan struct{})
	b.Cleanup(func() {
		_ = command.Process.Kill()
		<-done
		_ = command.Wait()
	})
	go func() {
		defer close(done)
		var n [8]byte
		for {
			if _, err := io.ReadFull(out, n[:]); err != nil {
				return
			}
			r.bytes.Add(int64(binary.LittleEndian.Uint64(n[:])))
		}
	}()
	return r
}

// await waits until the readers have received all bytes that were written.
func (r *readers) await(written func() int64) {
	for deadline := time.Now().Add(30 * time.Second); r.bytes.Load() < written(); time.Sleep(500 * time.Microsecond) {
		if time.Now().After(deadline) {
			r.b.Fatalf("the readers have %d bytes of %d", r.bytes.Load(), written())
		}
	}
}

// TestReaderProcess is the process of openReaders; as a test it is nothing.
func TestReaderProcess(t *testing.T) {
	text := os.Getenv("HERALD_BENCH_READERS")
	if text == "" {
		t.Skip("is a part of the benchmarks")
	}
	runtime.LockOSThread()
	var address, path string
	var count int
	if _, err := fmt.Sscan(text, &address, &path, &count); err != nil {
		t.Fatal(err)
	}
	host, err := net.ResolveTCPAddr("tcp4", address)
	if err != nil {
		t.Fatal(err)
	}
	poll, err := syscall.EpollCreate1(0)
	if err != nil {
		t.Fatal(err)
	}
	to := &syscall.SockaddrInet4{Port: host.Port, Addr: [4]byte(host.IP.To4())}
	for i := range count {
		fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
		if err == nil {
			err = syscall.Connect(fd, to)
		}
		if err == nil {
			_, err = syscall.Write(fd, fmt.Appendf(nil, "GET "+path+" HTTP/1.1\r\nHost: h\r\n\r\n", i))
		}
		if err == nil {
			err = syscall.EpollCtl(poll, syscall.EPOLL_CTL_ADD, fd, &syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(fd)})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	events := make([]syscall.EpollEvent, 512)
	buf := make([]byte, 64<<10)
	for {
		n, err := syscall.EpollWait(poll, events, -1)
		if err != nil && err != syscall.EINTR {
			t.Fatal(err)
		}
		got := 0
		for i := range max(0, n) {
			m, _ := syscall.Read(int(events[i].Fd), buf)
			got += max(0, m)
		}
		if _, err := os.Stdout.Write(binary.LittleEndian.AppendUint64(nil, uint64(got))); err != nil {
			return
		}
	}
}

// stillKafka is a Kafka without new records.
type stillKafka struct{ Kafka }

func (stillKafka) IsCurrent(string, [16]byte, func(int32) (int64, bool)) bool { return true }

func (stillKafka) Join(context.Context, string) ([]consumer.UserTopic, error) {
	return []consumer.UserTopic{{Topic: "all"}, {Topic: "shared"}}, nil
}

func (stillKafka) Leave(string)                                  {}
func (stillKafka) Delivered(consumer.Partition, [16]byte, int64) {}

// benchHub serves streams of a hub without Kafka. Each user has each streams.
func benchHub(b *testing.B, each int) (*Hub, string, func()) {
	b.Helper()
	hub := NewHub("event-type", nil)
	for _, topic := range []string{"shared", "all"} {
		hub.Begin(consumer.Partition{Topic: topic}, [16]byte{1}, 0)
	}
	h := NewHandler(Config{Hub: hub, Kafka: stillKafka{}, Heartbeat: time.Hour, Viewer: func(c echo.Context) (Viewer, error) {
		n, err := strconv.Atoi(c.QueryParam("user"))
		return Viewer{User: strconv.Itoa(n / each)}, err
	}})
	e := echo.New()
	e.GET("/events", h.Events)
	server := httptest.NewServer(e)
	return hub, server.Listener.Addr().String(), func() {
		h.Drain(context.WithoutCancel(b.Context()), 0)
		server.Close()
	}
}

// bare is the baseline: a loop that only writes to accepted connections, with one write(2) for each event.
// It shows the highest rate that the kernel allows.
type bare struct{ conns []net.Conn }

func newBare(b *testing.B, count int) (*bare, *readers) {
	b.Helper()
	listener, err := new(net.ListenConfig).Listen(b.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer listener.Close() //nolint:errcheck // all that is to come has come
	r := openReaders(b, listener.Addr().String(), "/%d", count)
	w := new(bare)
	for range count {
		conn, err := listener.Accept()
		if err != nil {
			b.Fatal(err)
		}
		w.conns = append(w.conns, conn)
	}
	b.Cleanup(func() {
		for _, c := range w.conns {
			_ = c.Close()
		}
	})
	return w, r
}

// round writes one event to each connection, with one goroutine for each processor.
func (w *bare) round(event []byte) {
	var wg sync.WaitGroup
	n := runtime.GOMAXPROCS(0)
	for i := range n {
		wg.Go(func() {
			for j := i; j < len(w.conns); j += n {
				_, _ = w.conns[j].Write(event)
			}
		})
	}
	wg.Wait()
}

// BenchmarkDeliver delivers one event to each of many streams, from the hub to the clients, and then has a
// bare loop write the same bytes in the same run. The metric of-bare is the streams' event rate divided by
// the loop's.
func BenchmarkDeliver(b *testing.B) {
	for _, c := range []struct {
		name        string
		users, each int
		broadcast   bool
	}{
		{"2000 users", 2000, 1, false},
		{"100 users of 100 streams", 100, 100, false},
		{"broadcast to 10000", 10000, 1, true},
	} {
		b.Run(c.name, func(b *testing.B) {
			count := c.users * c.each
			perEvent, size, allocs := deliverHerald(b, c.users, c.each, c.broadcast)
			w, r := newBare(b, count)
			event := bytes.Repeat([]byte{'a'}, size)
			begun := time.Now()
			for i := range b.N {
				w.round(event)
				r.await(func() int64 { return int64((i + 1) * count * size) })
			}
			bare := time.Since(begun) / time.Duration(b.N*count)
			b.ReportMetric(0, "ns/op") // the time of a round says nothing about an event
			b.ReportMetric(float64(perEvent), "ns/event")
			b.ReportMetric(float64(bare), "ns/event-bare")
			b.ReportMetric(float64(bare)/float64(perEvent), "of-bare")
			b.ReportMetric(allocs, "allocs/event")
		})
	}
}

// deliverHerald returns the time for each event, its bytes on the wire, and its number of allocated
// objects.
func deliverHerald(b *testing.B, users, each int, broadcast bool) (perEvent time.Duration, size int, allocs float64) {
	b.Helper()
	hub, address, end := benchHub(b, each)
	defer end()
	count := users * each
	r := openReaders(b, address, "/events?user=%d", count)
	for testutil.ToFloat64(hub.metrics.open) < float64(count) {
		time.Sleep(time.Millisecond)
	}
	written := func() int64 { return int64(testutil.ToFloat64(hub.metrics.bytes)) }
	time.Sleep(time.Second) // the streams catch up
	r.await(written)
	p := consumer.Partition{Topic: "shared"}
	value := bytes.Repeat([]byte{'a'}, benchEvent)
	records := []consumer.Record{{Record: batch.Record{Value: value}, Broadcast: true}}
	if broadcast {
		p.Topic = "all"
	} else {
		records = make([]consumer.Record, users)
		for i := range records {
			records[i] = consumer.Record{Record: batch.Record{Value: value}, User: []byte(strconv.Itoa(i))}
		}
	}
	before, offset := written(), int64(1_000_000) // from this offset on the length of ids does not change
	var mem, after runtime.MemStats
	runtime.ReadMemStats(&mem)
	begun := time.Now()
	for i := range b.N {
		for part := range slices.Chunk(records, 512) { // the consumer hands over records in parts of this size
			for j := range part {
				part[j].Offset = offset
				offset++
			}
			hub.Deliver(p, part, offset)
		}
		for testutil.ToFloat64(hub.metrics.live) < float64((i+1)*count) {
			time.Sleep(500 * time.Microsecond)
		}
		r.await(written)
	}
	perEvent = time.Since(begun) / time.Duration(b.N*count)
	runtime.ReadMemStats(&after)
	return perEvent, int(written()-before) / (b.N * count), float64(after.Mallocs-mem.Mallocs) / float64(b.N*count)
}
