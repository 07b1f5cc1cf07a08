package stream

import (
	"bytes"
	"context"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"herald/consumer"
	"herald/consumer/batch"
)

// countingKafka is a Kafka with one broadcast topic. The value of each record is its offset.
type countingKafka struct{ Kafka }

func (countingKafka) IsCurrent(string, [16]byte, func(int32) (int64, bool)) bool { return true }

func (countingKafka) Join(context.Context, string) ([]consumer.UserTopic, error) {
	return []consumer.UserTopic{{Topic: "all", Broadcast: true}}, nil
}

func (countingKafka) Leave(string)                                  {}
func (countingKafka) Delivered(consumer.Partition, [16]byte, int64) {}

func (countingKafka) Replay(_ context.Context, _ string, ranges []consumer.Range, fn func(*consumer.Range, *consumer.Record) bool) {
	for i := range ranges {
		for r := &ranges[i]; r.Next < r.To && fn(r, countingRecord(r.Next)); {
			r.Next++
		}
	}
}

func countingRecord(offset int64) *consumer.Record {
	return &consumer.Record{Record: batch.Record{Offset: offset, Value: strconv.AppendInt(nil, offset, 10)}, Broadcast: true}
}

// closingOutput is a partOutput that reports its end.
type closingOutput struct {
	partOutput
	closed chan struct{}
}

func (o *closingOutput) close(clean bool) bool {
	close(o.closed)
	return clean
}

// broadcastClient is a client whose stream ends and is resumed.
type broadcastClient struct {
	handler *Handler
	stream  *clientStream
	out     *closingOutput
	lastID  string
	numbers []string // the data of all events
}

func (c *broadcastClient) open() {
	c.out = &closingOutput{closed: make(chan struct{})}
	r := streamRequest{lastID: c.lastID}
	_ = c.handler.roster.admit(netip.Addr{}, "", false) // there are no limits
	c.stream = c.handler.register(Viewer{User: "alice"}, netip.Addr{}, r, c.out)
	c.stream.start(r)
}

// end ends the stream, and reads the events that it wrote.
func (c *broadcastClient) end() {
	c.stream.sub.end(errGone)
	<-c.out.closed
	for _, e := range parse(c.out.text).events {
		c.lastID = e.id
		if e.kind == TypeMessage {
			c.numbers = append(c.numbers, e.data)
		}
	}
}

// await waits until the client has the last record.
func (c *broadcastClient) await(t *testing.T, last string) {
	t.Helper()
	has := func() bool {
		c.out.mu.Lock()
		defer c.out.mu.Unlock()
		return slices.Contains(c.numbers, last) || bytes.Contains(c.out.text, []byte("\ndata: "+last+"\n\n"))
	}
	for deadline := time.Now().Add(30 * time.Second); !has(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("a client has not got the last record, after %v", c.numbers)
		}
	}
}

// TestBroadcastWhileStreamsComeAndGo broadcasts to more streams than a visit calls at once. Some of them end and
// resume all the time. Each must get each record once and in order.
func TestBroadcastWhileStreamsComeAndGo(t *testing.T) {
	const staying, coming, count = 2 * readersAtOnce, 20, 300
	hub := NewHub("event-type", nil)
	p := consumer.Partition{Topic: "all"}
	hub.Begin(p, [16]byte{1}, 0)
	h := NewHandler(Config{Hub: hub, Kafka: countingKafka{}, Heartbeat: 20 * time.Millisecond})
	clients := make([]broadcastClient, staying+coming)
	for i := range clients {
		clients[i].handler = h
		clients[i].open()
	}
	var wg sync.WaitGroup
	done := make(chan struct{})
	for i := range coming {
		c := &clients[i]
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				case <-time.After(rand.N(5 * time.Millisecond)):
					c.end()
					c.open()
				}
			}
		})
	}
	for i := range int64(count) {
		hub.Deliver(p, []consumer.Record{*countingRecord(i)}, i+1)
	}
	close(done)
	wg.Wait()
	var want []string
	for i := range count {
		want = append(want, strconv.Itoa(i))
	}
	for i := range clients {
		clients[i].await(t, want[count-1])
		clients[i].end()
		if diff := cmp.Diff(want, clients[i].numbers); diff != "" {
			t.Fatalf("client %d got (-want +got):\n%s", i, diff)
		}
	}
	h.Drain(t.Context(), 0)
}
