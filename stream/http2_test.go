package stream

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"herald/consumer"
	"herald/consumer/batch"
)

// overHTTP2 serves HTTP/2 without TLS. A connection ends by itself if its client does not read.
func overHTTP2(timeout time.Duration) func(*httptest.Server) {
	return func(s *httptest.Server) {
		s.Config.Protocols = new(http.Protocols)
		s.Config.Protocols.SetUnencryptedHTTP2(true)
		s.Config.WriteTimeout = timeout // for ordinary responses; streams last longer
		s.Config.HTTP2 = &http.HTTP2Config{WriteByteTimeout: timeout}
		s.Start()
		transport := &http.Transport{Protocols: new(http.Protocols)}
		transport.Protocols.SetUnencryptedHTTP2(true)
		s.Client().Transport = transport
	}
}

// flood puts n events of 1 MiB into the queues of bob's streams.
func (s *site) flood(n int) {
	p := consumer.Partition{Topic: "flood"}
	for i := range int64(n) {
		s.hub.Deliver(p, []consumer.Record{{Record: batch.Record{Offset: i, Value: bytes.Repeat([]byte{'a'}, 1<<20)}, User: []byte("bob")}}, i+1)
	}
}

// ended returns the number of ended streams by reason.
func (s *site) ended(reason string) float64 {
	return testutil.ToFloat64(s.hub.metrics.ended.WithLabelValues(reason))
}

func (s *site) awaitEnded(t *testing.T, reason string, n float64) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); s.ended(reason) < n; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%v streams ended by %s, want %v", s.ended(reason), reason, n)
		}
	}
}

// TestIdleOverHTTP2 checks that a stream survives a time without writes that is longer than the write
// time-out.
func TestIdleOverHTTP2(t *testing.T) {
	const timeout = time.Second
	s := serveWith(t, Config{Heartbeat: time.Hour, WriteTimeout: timeout}, detach(overHTTP2(timeout)))
	c := openWith(t, s.Client(), s.url+"alice", "")
	c.next()
	time.Sleep(2 * timeout)
	put(t, s.producer, "shared", "alice", "still there")
	if e := c.nextButCheckpoint(); e.data != "still there" {
		t.Errorf("got %+v", e)
	}
}

// floodKafka is a Kafka that adds the topic flood.
type floodKafka struct{ Kafka }

func (floodKafka) IsCurrent(string, [16]byte, func(int32) (int64, bool)) bool { return true }

func (l floodKafka) Join(ctx context.Context, user string) ([]consumer.UserTopic, error) {
	sources, err := l.Kafka.Join(ctx, user)
	if err == nil {
		sources = append(sources[:1:1], append([]consumer.UserTopic{{Topic: "flood"}}, sources[1:]...)...) // sorted: all, flood, own, shared
	}
	return sources, err
}

// serveFlood is serveWith for streams that have the topic flood.
func serveFlood(t *testing.T, cfg Config, start func(*httptest.Server)) *site {
	t.Helper()
	s := serveWith(t, cfg, start)
	flood := floodKafka{s.handler.service.catchUps.kafka}
	s.handler.service.catchUps.kafka, s.handler.service.streams.kafka, s.handler.service.writers.kafka = flood, flood, flood
	s.hub.Begin(consumer.Partition{Topic: "flood"}, [16]byte{9}, 0)
	return s
}

// TestDrainCutsWhoIsStuck drains while the client of one stream does not read and another stream, over
// HTTP/2, has ended already.
func TestDrainCutsWhoIsStuck(t *testing.T) {
	s := serveFlood(t, Config{Heartbeat: time.Hour, MaxQueue: 64 << 20}, detach(overHTTP2(time.Minute)))
	alice, bob := openWith(t, s.Client(), s.url+"alice", ""), openWith(t, s.Client(), s.url+"bob", "")
	alice.next()
	bob.next()
	put(t, s.producer, "shared", "bob", "ready") // once this arrives, the stream has caught up and takes live records
	bob.nextButCheckpoint()
	s.flood(20)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	s.handler.Drain(ctx, 0)
	s.awaitEnded(t, "draining", 2)
}

// TestStalledConnectionOverHTTP2 has an HTTP/2 client that reads nothing from its connection. Its streams
// must end, and a drain must not wait for them.
func TestStalledConnectionOverHTTP2(t *testing.T) {
	const timeout = time.Second
	s := serveFlood(t, Config{Heartbeat: time.Hour, WriteTimeout: timeout, MaxQueue: 64 << 20}, detach(overHTTP2(timeout)))
	c := openFrames(t, s, 1<<31-1)
	c.check(c.conn.SetReadBuffer(64 << 10))
	c.check(c.WriteWindowUpdate(0, 1<<30))
	c.get("/events?user=bob")
	c.readUntil("checkpoint")
	put(t, s.producer, "shared", "bob", "ready") // once this arrives, the stream has caught up and takes live records
	c.readUntil("data: ready")
	s.flood(40)
	for deadline := time.Now().Add(20 * time.Second); testutil.ToFloat64(s.hub.metrics.open) > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the stream does not end")
		}
	}
}

// TestRefusedOverHTTP2 refuses streams of a connection. The connection must continue to serve its other
// streams.
func TestRefusedOverHTTP2(t *testing.T) {
	var mu sync.Mutex
	connections := make(map[string]bool)
	s := serveWith(t, Config{Admission: Admission{Streams: 1}, Viewer: func(c echo.Context) (Viewer, error) {
		mu.Lock()
		defer mu.Unlock()
		connections[c.Request().RemoteAddr] = true
		return Viewer{User: "bob"}, nil
	}}, detach(overHTTP2(time.Minute)))
	openWith(t, s.Client(), s.url, "").next()
	for range 5 {
		refused := openWith(t, s.Client(), s.url, "")
		if e := refused.next(); e.kind != TypeEnd {
			t.Errorf("got %+v, want the end", e)
		}
		_ = refused.res.Body.Close()
	}
	if len(connections) != 1 {
		t.Errorf("%d connections were used, want 1", len(connections))
	}
}

// TestRevokedMeanwhile revokes a token after its check and before the stream's registration.
func TestRevokedMeanwhile(t *testing.T) {
	var s *site
	s = serveWith(t, Config{Viewer: func(echo.Context) (Viewer, error) {
		revoked := false
		v := Viewer{User: "bob", TokenID: "1", Holds: func() bool { return !revoked }}
		revoked = true // Handler.End finds no stream yet
		s.handler.End(ErrRevoked, func(v Viewer) bool { return v.TokenID == "1" })
		return v, nil
	}}, (*httptest.Server).Start)
	_, r := dial(t, s.url, "1.1")
	readUntil(t, r, `{"reason":"revoked"}`)
}

// TestRevokedWhileStuck revokes the token of a client that does not read. Its connection must be cut.
func TestRevokedWhileStuck(t *testing.T) {
	s := serveFlood(t, Config{Heartbeat: time.Hour, WriteTimeout: time.Hour, MaxQueue: 64 << 20}, (*httptest.Server).Start)
	_, r := dial(t, s.url+"bob", "1.1")
	readUntil(t, r, "checkpoint")
	put(t, s.producer, "shared", "bob", "ready") // once this arrives, the stream has caught up and takes live records
	readUntil(t, r, "data: ready")
	s.flood(20)
	s.handler.End(ErrRevoked, func(v Viewer) bool { return v.User == "bob" })
	for deadline := time.Now().Add(20 * time.Second); testutil.ToFloat64(s.hub.metrics.open) > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the stream does not end")
		}
	}
}

// TestResetIsTheClients checks that a stream ends with the reason client if the client resets the connection
// while the server writes to it.
func TestResetIsTheClients(t *testing.T) {
	const count = 30
	s := serveFlood(t, Config{Heartbeat: time.Hour}, (*httptest.Server).Start)
	for i := range count {
		conn, r := dial(t, s.url+"bob", "1.1")
		readUntil(t, r, "checkpoint")
		_ = conn.(*net.TCPConn).SetLinger(0)
		_ = conn.Close()
		s.hub.Deliver(consumer.Partition{Topic: "flood"}, []consumer.Record{{Record: batch.Record{Offset: int64(i), Value: []byte("v")}, User: []byte("bob")}}, int64(i+1))
		s.awaitEnded(t, "client", float64(i+1))
	}
}

// partOutput is an output that accepts only a part of each write at once.
type partOutput struct {
	mu   sync.Mutex
	text []byte
}

func (o *partOutput) send(b []byte) ([]byte, error) {
	b = b[headroom:]
	n := len(b)
	if n > 100 {
		n = 50
	}
	return b[n:], o.finish(b[:n])
}

func (o *partOutput) sendLarge(l *large) ([]byte, error) {
	return o.send(append(make([]byte, headroom), l.text...))
}

func (o *partOutput) finish(b []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text = append(o.text, b...)
	return nil
}

func (o *partOutput) close(clean bool) bool { return clean }
func (o *partOutput) leave()                {}
func (o *partOutput) cut()                  {}

// lateKafka is a Kafka whose Replay returns late.
type lateKafka struct{ Kafka }

func (lateKafka) IsCurrent(string, [16]byte, func(int32) (int64, bool)) bool { return true }

func (lateKafka) Join(context.Context, string) ([]consumer.UserTopic, error) {
	return []consumer.UserTopic{{Topic: "shared"}}, nil
}

func (lateKafka) Replay(_ context.Context, user string, ranges []consumer.Range, fn func(*consumer.Range, *consumer.Record) bool) {
	for r := &ranges[0]; r.Next < r.To; r.Next++ {
		if !fn(r, &consumer.Record{Record: batch.Record{Offset: r.Next, Value: bytes.Repeat([]byte{'x'}, 2000)}, User: []byte(user)}) {
			time.Sleep(30 * time.Millisecond)
			return
		}
	}
}

// TestNoHeartbeatWithinAnEvent has heartbeats fall due while the rest of a partly written event waits.
func TestNoHeartbeatWithinAnEvent(t *testing.T) {
	hub := NewHub("event-type", nil)
	p := consumer.Partition{Topic: "shared"}
	hub.Begin(p, [16]byte{1}, 0)
	hub.Deliver(p, nil, 6)
	out := new(partOutput)
	s := newStream(t, streamOptions{hub: hub, kafka: lateKafka{}, out: out, heartbeat: 10 * time.Millisecond})
	s.start(streamRequest{lastID: "1~" + tag("shared") + newIncarnation([16]byte{1}).incarnationTag})
	out.mu.Lock()
	defer out.mu.Unlock()
	events := 0
	for line := range strings.Lines(string(out.text)) {
		if data, ok := strings.CutPrefix(line, "data: x"); ok {
			if events++; len(data) != 2000 {
				t.Errorf("an event of %d bytes, want 2000: …%q", len(data), data[max(0, len(data)-20):])
			}
		}
	}
	if events != 6 {
		t.Errorf("%d events, want 6", events)
	}
}

// TestSteadyReader checks that the write time-out spares a client that reads slowly but steadily, however
// much waits for it.
func TestSteadyReader(t *testing.T) {
	const timeout, attempts = time.Second, 3
	for n := 1; ; n++ {
		pause, err := readSteadily(t, timeout)
		if err == nil {
			return
		}
		if n == attempts || pause < timeout/2 {
			t.Fatalf("cut, with pauses of %v at the most: %v", pause, err)
		}
		t.Logf("once more, because the machine has stopped the client for %v", pause)
	}
}

// readSteadily reads for five time-outs, and returns the longest time between two reads.
func readSteadily(t *testing.T, timeout time.Duration) (pause time.Duration, err error) {
	t.Helper()
	s := serveFlood(t, Config{Heartbeat: time.Hour, WriteTimeout: timeout, MaxQueue: 64 << 20}, (*httptest.Server).Start)
	conn, r := dial(t, s.url+"bob", "1.1")
	if err := conn.(*net.TCPConn).SetReadBuffer(64 << 10); err != nil {
		t.Fatal(err)
	}
	readUntil(t, r, "checkpoint")
	put(t, s.producer, "shared", "bob", "ready") // once this arrives, the stream has caught up and takes live records
	readUntil(t, r, "data: ready")
	flooded := make(chan struct{})
	go func() { // otherwise a client that begins when the flood has ended has not read for as long as that took
		defer close(flooded)
		s.flood(20)
	}()
	defer func() { <-flooded }()
	piece := make([]byte, 40<<10) // four of these are more than the client's buffer, whose kernel accepts more bytes once it is empty
	last := time.Now()
	for begun := last; err == nil && last.Sub(begun) < 5*timeout; time.Sleep(timeout / 10) {
		now := time.Now()
		pause, last = max(pause, now.Sub(last)), now
		_, err = io.ReadFull(r, piece)
	}
	return pause, err
}
