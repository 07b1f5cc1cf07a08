//go:build linux

package stream

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"testing"
	"time"

	"herald/consumer"
)

// BenchmarkManyStreams measures what a stream costs in a process that has many, without sockets: each stream
// writes to an output that counts. Costs of a stream that grow with the number of streams show here.
//
// While the broadcast is under way, records for single users arrive on another partition, and other streams
// open and close. So the benchmark shows how long these wait for the broadcast. Each iteration opens and closes
// all streams: run it with -benchtime 1x.
func BenchmarkManyStreams(b *testing.B) {
	for _, count := range []int{10_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprintf("%d streams", count), func(b *testing.B) {
			b.ReportMetric(0, "ns/op") // the time of all parts together says nothing
			defer debug.SetGCPercent(debug.SetGCPercent(-1))
			for range b.N {
				debug.SetGCPercent(50) // as cmd/herald sets it
				m := newManyStreams(b, count)
				m.measureOpening()
				m.measureEvents()
				m.measureHeartbeats()
				m.measureBroadcast()
				m.measureQueues()
				m.measureRevocation()
				m.checkEvents()
				m.measureClosing()
			}
		})
	}
}

// measureOpening opens all streams, with one goroutine for each processor.
func (m *manyStreams) measureOpening() {
	before, begun, cpu := liveMemory(), time.Now(), cpuTime()
	var wg sync.WaitGroup
	n := runtime.GOMAXPROCS(0)
	for first := range n {
		wg.Go(func() {
			for i := first; i < m.count; i += n {
				m.open(i)
			}
		})
	}
	wg.Wait()
	m.report(float64(time.Since(begun)), "open-ns")
	m.report(float64(cpuTime()-cpu), "open-cpu-ns")
	m.report(liveMemory()-before, "B")
	cpu = cpuTime()
	runtime.GC()
	m.report(float64(cpuTime()-cpu), "gc-cpu-ns")
	debug.SetGCPercent(-1) // the other parts make little garbage; a collection in one of them would hide its own costs
}

// measureEvents delivers records for single users, spread over all users.
func (m *manyStreams) measureEvents() {
	const count, part = 1_000_000, 512 // the consumer hands over records in parts of this size
	users := make([][]byte, count)
	for i := range users {
		user := rand.IntN(m.count)
		m.want[user]++
		users[i] = []byte(userName(user))
	}
	begun, cpu, before := time.Now(), cpuTime(), memory()
	var records []consumer.Record
	partition := int32(0)
	for some := range slices.Chunk(users, part) {
		records = records[:0]
		for i, user := range some {
			records = append(records, benchRecord(user, m.offset+int64(i)))
		}
		m.hub.Deliver(consumer.Partition{Topic: "shared", ID: partition}, records, m.offset+part)
		if partition = (partition + 1) % manyPartitions; partition == 0 {
			m.offset += part
		}
	}
	m.offset += part
	m.await(func() bool { return m.total.Load() == count })
	m.b.ReportMetric(count/time.Since(begun).Seconds(), "events/s")
	m.b.ReportMetric(float64(cpuTime()-cpu)/count, "cpu-ns/event")
	m.b.ReportMetric((memory()-before)/count, "garbage-B/event")
}

// measureHeartbeats has all streams write a heartbeat, slot by slot. In the first round each heartbeat is a
// checkpoint, because other users' records have moved the position. In the second round nothing has moved.
func (m *manyStreams) measureHeartbeats() {
	m.offset += checkpointAfter
	for i := range int32(manyPartitions) {
		m.hub.Deliver(consumer.Partition{Topic: "shared", ID: i}, nil, m.offset)
	}
	for _, unit := range []string{"checkpoint-cpu-ns", "heartbeat-cpu-ns"} {
		cpu := cpuTime()
		for slot := range beatSlots {
			m.handler.roster.requestHeartbeats()
			if slot%max(1, beatSlots*5000/m.count) == 0 { // not after each of a few streams, because waiting costs too
				m.awaitIdle()
			}
		}
		m.awaitIdle()
		m.report(float64(cpuTime()-cpu), unit)
	}
}

// broadcast delivers one record to all streams.
func (m *manyStreams) broadcast() {
	r := benchRecord(nil, int64(m.broadcasts))
	r.Broadcast = true
	m.broadcasts++
	m.hub.Deliver(consumer.Partition{Topic: "all"}, []consumer.Record{r}, int64(m.broadcasts))
}

// measureBroadcast broadcasts while others deliver, open and close.
func (m *manyStreams) measureBroadcast() {
	m.measureOthers("ms-alone-max-", func() { time.Sleep(500 * time.Millisecond) })
	m.measureOthers("ms-max-", func() {
		begun, cpu := time.Now(), cpuTime()
		m.broadcast()
		m.report(float64(time.Since(begun)), "queue-ns")
		m.awaitIdle()
		m.report(float64(time.Since(begun)), "broadcast-ns")
		m.report(float64(cpuTime()-cpu), "broadcast-cpu-ns")
	})
}

// measureOthers measures how long others wait at most while fn runs.
func (m *manyStreams) measureOthers(unit string, fn func()) {
	var others sync.WaitGroup
	done := make(chan struct{})
	var delivery, event, opening longest
	others.Go(func() { m.deliverOthers(done, &delivery, &event) })
	others.Go(func() { m.openOthers(done, &opening) })
	fn()
	close(done)
	others.Wait()
	m.awaitIdle()
	m.b.ReportMetric(delivery.milliseconds(), unit+"delivery")
	m.b.ReportMetric(event.milliseconds(), unit+"event")
	m.b.ReportMetric(opening.milliseconds(), unit+"open")
}

// measureQueues broadcasts while no stream is served, as if the writing were slow. All queues are new.
func (m *manyStreams) measureQueues() {
	before, e := liveMemory(), m.handler.engine
	e.mu.Lock()
	e.workers = e.maxWorkers // so that no worker starts
	e.mu.Unlock()
	m.broadcast()
	m.report(memory()-before, "queue-B")
	for range e.maxWorkers {
		go e.work()
	}
	m.awaitIdle()
}

// measureRevocation measures a revocation of one user's tokens, which are valid nevertheless.
func (m *manyStreams) measureRevocation() {
	const count = 1000
	begun := time.Now()
	for range count {
		m.handler.EndTokens(ErrRevoked, []string{userName(rand.IntN(m.count))}, nil, func(Viewer) bool { return false })
	}
	m.b.ReportMetric(float64(time.Since(begun))/count, "ns/revocation")
}

// deliverOthers delivers one record after the other for single users. It notes how long a delivery takes, and
// how long it takes until the stream has written everything.
func (m *manyStreams) deliverOthers(done chan struct{}, delivery, event *longest) {
	for ; !isClosed(done); time.Sleep(time.Millisecond) {
		user := rand.IntN(m.count)
		r := benchRecord([]byte(userName(user)), m.offset)
		m.offset++
		m.want[user]++
		begun := time.Now()
		m.hub.Deliver(consumer.Partition{Topic: "shared"}, []consumer.Record{r}, m.offset)
		delivery.add(time.Since(begun))
		sub := m.outputs[user].stream.sub
		m.await(func() bool {
			sub.mu.Lock()
			defer sub.mu.Unlock()
			return !sub.busy
		})
		event.add(time.Since(begun))
	}
}

// openOthers opens one stream after the other and closes it. It notes how long an opening takes.
func (m *manyStreams) openOthers(done chan struct{}, opening *longest) {
	for i := 0; !isClosed(done); i = (i + 1) % manyOthers {
		begun := time.Now()
		m.open(m.count + i)
		opening.add(time.Since(begun))
		m.outputs[m.count+i].stream.sub.end(errGone)
		time.Sleep(time.Millisecond)
	}
}

// checkEvents checks that each stream has written its own events and the broadcasts, each once.
func (m *manyStreams) checkEvents() {
	for i, own := range m.want {
		if got := m.outputs[i].events.Load(); got != own+m.broadcasts {
			m.b.Fatalf("the stream of user %d has written %d events, want %d", i, got, own+m.broadcasts)
		}
	}
}

// measureClosing ends all streams, as if their clients had closed the connections one after the other.
func (m *manyStreams) measureClosing() {
	order := rand.Perm(m.count)
	begun, cpu := time.Now(), cpuTime()
	for _, i := range order {
		m.outputs[i].stream.sub.end(errGone)
	}
	m.handler.Drain(m.b.Context(), 0) // waits for the last one
	m.report(float64(time.Since(begun)), "close-ns")
	m.report(float64(cpuTime()-cpu), "close-cpu-ns")
}
