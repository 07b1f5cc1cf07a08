//go:build linux

package stream

import (
	"bytes"
	"context"
	"net/netip"
	"runtime"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"herald/consumer"
	"herald/consumer/batch"
)

// manyPartitions is the number of partitions of the topic that has the users' records.
const manyPartitions = 4

// manyOthers is the number of users whose streams open and close during the broadcast.
const manyOthers = 100

// manyStreams is a handler with many streams, one for each user. One more partition has broadcasts.
type manyStreams struct {
	b       *testing.B
	count   int // the number of streams; the users after them are the others
	hub     *Hub
	handler *Handler
	outputs []counted // by user
	want    []int32   // the number of their own events that the streams must write, by user
	total   atomic.Int64
	offset  int64 // the next offset in each partition of users' records

	broadcasts int32 // the number of broadcasts, and the next one's offset
}

// manyKafka is a Kafka whose logs have no record that is not delivered live.
type manyKafka struct{ stillKafka }

func (manyKafka) Replay(_ context.Context, _ string, ranges []consumer.Range, _ func(*consumer.Range, *consumer.Record) bool) {
	for i := range ranges {
		ranges[i].Next = ranges[i].To
	}
}

// counted is an output that counts the events that a stream writes.
type counted struct {
	stream *clientStream
	total  *atomic.Int64 // the events of all streams
	events atomic.Int32
}

func (o *counted) send(text []byte) ([]byte, error) {
	if n := bytes.Count(text, []byte("\ndata: a")); n > 0 { // Herald's own events have JSON objects
		o.events.Add(int32(n))
		o.total.Add(int64(n))
	}
	return nil, nil
}

func (o *counted) sendLarge(*large) ([]byte, error) { return nil, nil }
func (o *counted) finish([]byte) error              { return nil }
func (o *counted) close(clean bool) bool            { return clean }
func (o *counted) leave()                           {}
func (o *counted) cut()                             {}

func newManyStreams(b *testing.B, count int) *manyStreams {
	b.Helper()
	m := &manyStreams{
		b: b, count: count, hub: NewHub("event-type", nil), offset: 12_345_678,
		outputs: make([]counted, count+manyOthers), want: make([]int32, count),
	}
	for i := range int32(manyPartitions) {
		m.hub.Begin(consumer.Partition{Topic: "shared", ID: i}, [16]byte{1}, m.offset)
	}
	m.hub.Begin(consumer.Partition{Topic: "all"}, [16]byte{2}, 0)
	m.handler = NewHandler(Config{Hub: m.hub, Kafka: manyKafka{}, Heartbeat: 24 * time.Hour}) // the benchmark requests heartbeats
	for i := range m.outputs {
		m.outputs[i].total = &m.total
	}
	return m
}

// open opens the stream of a user.
func (m *manyStreams) open(user int) {
	if reason := m.handler.roster.admit(netip.Addr{}, "", false); reason != "" {
		m.b.Error(reason)
		return
	}
	out := &m.outputs[user]
	out.stream = m.handler.register(Viewer{User: userName(user), Expires: time.Now().Add(time.Hour)}, netip.Addr{}, streamRequest{}, out)
	out.stream.start(streamRequest{})
}

func userName(user int) string { return "user-" + strconv.Itoa(user) }

// await waits until the condition holds.
func (m *manyStreams) await(condition func() bool) {
	m.b.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !condition(); time.Sleep(500 * time.Microsecond) {
		if time.Now().After(deadline) {
			m.b.Fatal("the streams are not done after two minutes")
		}
	}
}

// awaitIdle waits until no stream is served.
func (m *manyStreams) awaitIdle() {
	e := m.handler.engine
	m.await(func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		return e.workers == 0
	})
}

// report reports an amount for each stream.
func (m *manyStreams) report(amount float64, unit string) {
	m.b.ReportMetric(amount/float64(m.count), unit+"/stream")
}

// liveMemory returns the bytes of live objects and of stacks.
func liveMemory() float64 {
	runtime.GC()
	runtime.GC() // pools keep objects over one collection
	return memory()
}

// memory returns the bytes of the heap's objects and of stacks.
func memory() float64 {
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	return float64(mem.HeapAlloc + mem.StackInuse)
}

// cpuTime returns the CPU time that the process has used.
func cpuTime() time.Duration {
	var use syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &use)
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}

// benchRecord returns a record for a user.
func benchRecord(user []byte, offset int64) consumer.Record {
	return consumer.Record{Record: batch.Record{Value: benchValue, Offset: offset}, User: user}
}

var benchValue = bytes.Repeat([]byte{'a'}, benchEvent)

// longest is the longest of several times.
type longest struct{ atomic.Int64 }

func (l *longest) add(d time.Duration) { l.Store(max(l.Load(), int64(d))) }

func (l *longest) milliseconds() float64 { return float64(l.Load()) / 1e6 }

func isClosed(done chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}
