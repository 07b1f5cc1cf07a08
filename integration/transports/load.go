package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/twmb/franz-go/pkg/kgo"
)

// load is the clients of a session, and what they have counted.
type load struct {
	transport transport
	address   string // host:port of the server, or of the proxy
	clients   []*client
	dials     chan struct{} // bounds the connections that are made at a time
	wire      wire
	running   sync.WaitGroup

	ready     atomic.Int64 // clients that have a position
	requests  atomic.Int64
	events    atomic.Int64 // records that arrived, each counted once
	since     atomic.Int64 // Unix time in ns; latencies has no older records
	lost      atomic.Int64 // records that a later one has overtaken
	doubled   atomic.Int64
	latencies latencies
	liveAgain latencies

	mu      sync.Mutex
	reasons map[string]int // why connections ended by themselves, and how often

	// Only the session's goroutine uses these.
	written []uint64 // by client: the number of the last record
	turn    int      // counts the written records
}

// report prints what did not go as it should.
func (l *load) report(w io.Writer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for reason, n := range l.reasons {
		_, _ = fmt.Fprintf(w, "  %d times: %s\n", n, reason)
	}
}

// atOnce is how many connections the clients make at a time.
const atOnce = 64

// browserHeader has the headers that Chrome sends with an EventSource. They go out with each request of a poll.
var browserHeader = http.Header{
	"Accept": {"text/event-stream"}, "Accept-Encoding": {"gzip, deflate, br, zstd"}, "Accept-Language": {"en-US,en;q=0.9"}, "Cache-Control": {"no-cache"},
	"Referer": {"https://localhost/"}, "Sec-Ch-Ua": {`"Chromium";v="142", "Not_A Brand";v="99"`}, "Sec-Ch-Ua-Mobile": {"?0"}, "Sec-Ch-Ua-Platform": {`"Linux"`},
	"Sec-Fetch-Dest": {"empty"}, "Sec-Fetch-Mode": {"cors"}, "Sec-Fetch-Site": {"same-origin"},
	"User-Agent": {"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36"},
}

func newLoad(t transport, address string, clients int) *load {
	l := &load{
		transport: t, address: address, dials: make(chan struct{}, atOnce),
		wire: wire{open: make(map[*wireConn]struct{})}, reasons: make(map[string]int), written: make([]uint64, clients),
		latencies: newLatencies(), liveAgain: newLatencies(),
	}
	for i := range clients {
		l.clients = append(l.clients, newClient(l, userName(i)))
	}
	return l
}

func userName(i int) string { return "user-" + strconv.Itoa(i) }

// url returns the server's URL without a path. scheme is http or ws.
func (l *load) url(scheme string) string {
	if l.transport.tls {
		scheme += "s"
	}
	return scheme + "://" + l.address
}

// note counts why something did not go as it should.
func (l *load) note(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reasons[fmt.Sprint(err)]++
}

// start starts the clients from first to end-1 and waits until each has a position.
func (l *load) start(ctx context.Context, first, end int, patience time.Duration) error {
	for _, c := range l.clients[first:end] {
		l.running.Go(func() { c.run(ctx) })
	}
	deadline := time.Now().Add(patience)
	for l.ready.Load() < int64(end) {
		if time.Now().After(deadline) {
			l.mu.Lock()
			defer l.mu.Unlock()
			return fmt.Errorf("%d of %d clients are live after %v: %v", l.ready.Load(), end, patience, l.reasons)
		}
		if sleep(ctx, 20*time.Millisecond); ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return nil
}

// stop cuts all clients. The context of start must have ended.
func (l *load) stop() {
	for _, c := range l.clients {
		c.cut()
		c.http.CloseIdleConnections()
	}
	l.running.Wait()
}

// write writes records for the first clients for the duration: rate records a second for each of them, in turn.
func (l *load) write(ctx context.Context, kafka *kgo.Client, topic string, clients int, d time.Duration, rate float64) {
	total, count := rate*float64(clients), 0
	begin := time.Now()
	for ctx.Err() == nil {
		elapsed := time.Since(begin)
		if elapsed >= d {
			return
		}
		for due := int(elapsed.Seconds()*total) + 1; count < due; count++ {
			i := l.turn % clients
			l.turn++
			l.written[i]++
			at := begin.Add(time.Duration(float64(count) / total * float64(time.Second))) // when it is due; a late tool does not make it younger
			kafka.Produce(ctx, &kgo.Record{Topic: topic, Key: []byte(l.clients[i].user), Value: appendNotification(nil, l.clients[i].user, l.written[i], at)}, func(_ *kgo.Record, err error) {
				if err != nil && ctx.Err() == nil {
					l.note(fmt.Errorf("write to Kafka: %w", err))
				}
			})
		}
		sleep(ctx, 500*time.Microsecond)
	}
}

// measureLatencies begins a new list of latencies, of the records that are written from now on. An earlier record could come
// into the list only if it still waits for a poll, so the list would have too many long latencies.
func (l *load) measureLatencies() {
	l.since.Store(time.Now().UnixNano())
	_, _, _ = l.latencies.take()
}

// missing returns how many of the written records have neither arrived nor been overtaken.
func (l *load) missing() (count int64) {
	for _, n := range l.written {
		count += int64(n) //nolint:gosec // small
	}
	return count - l.events.Load() - l.lost.Load()
}

// waitForAll waits until every record has arrived, at most for the patience.
func (l *load) waitForAll(ctx context.Context, patience time.Duration) {
	for end := time.Now().Add(patience); l.missing() > 0 && time.Now().Before(end) && ctx.Err() == nil; {
		sleep(ctx, 20*time.Millisecond)
	}
}

// latencies is a histogram of times in µs, up to ten minutes.
type latencies struct {
	mu   *sync.Mutex
	list *hdrhistogram.Histogram
}

const longestLatency = 10 * time.Minute

func newLatencies() latencies {
	return latencies{new(sync.Mutex), hdrhistogram.New(1, longestLatency.Microseconds(), 3)}
}

func (l *latencies) add(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.list.RecordValue(min(max(d.Microseconds(), 1), longestLatency.Microseconds())) // the value is within the bounds
}

// take returns two quantiles in ms of the times since the last call, and how many times there were.
func (l *latencies) take() (p50, p99 float64, count int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p50, p99 = float64(l.list.ValueAtQuantile(50))/1000, float64(l.list.ValueAtQuantile(99))/1000
	count = l.list.TotalCount()
	l.list.Reset()
	return p50, p99, count
}
