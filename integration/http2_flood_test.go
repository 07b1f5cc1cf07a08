package integration

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// attacker is a client's HTTP/2 connection that obeys no rule. Herald may close it at any time, so that it ignores
// errors.
type attacker struct {
	*http2.Framer
	conn   net.Conn
	block  bytes.Buffer
	fields *hpack.Encoder
	last   uint32 // the last stream's number
}

// newAttacker connects. Each of its streams takes that many bytes.
func newAttacker(t *testing.T, dial func() net.Conn, window uint32) *attacker {
	t.Helper()
	a := &attacker{conn: dial()}
	a.Framer = http2.NewFramer(a.conn, a.conn)
	a.AllowIllegalWrites = true
	a.fields = hpack.NewEncoder(&a.block)
	_, _ = io.WriteString(a.conn, http2.ClientPreface)
	_ = a.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: window})
	go func() { _, _ = io.Copy(io.Discard, a.conn) }() // until the connection is closed
	return a
}

// request sends a request that ends with its header or not, with as many headers of that many bytes. It returns the
// number of the stream.
func (a *attacker) request(method, path string, end bool, headers, size int) uint32 {
	a.block.Reset()
	for _, f := range [][2]string{{":method", method}, {":scheme", "http"}, {":authority", "localhost"}, {":path", path}} {
		_ = a.fields.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	for range headers { // after the first, each takes a byte (RFC 7541, section 6.1), if the table has room for one
		_ = a.fields.WriteField(hpack.HeaderField{Name: "x", Value: strings.Repeat("!", size)})
	}
	a.last = (a.last + 1) | 1
	for first := true; first || a.block.Len() > 0; first = false {
		piece := a.block.Next(16 << 10)
		if first {
			_ = a.WriteHeaders(http2.HeadersFrameParam{StreamID: a.last, BlockFragment: piece, EndStream: end, EndHeaders: a.block.Len() == 0})
		} else {
			_ = a.WriteContinuation(a.last, a.block.Len() == 0, piece)
		}
	}
	return a.last
}

// subscribe requests a stream of the user eve.
func (a *attacker) subscribe() uint32 { return a.request("GET", "/events?user=eve", true, 0, 0) }

// floods are the attacks of TestHTTP2Floods. Each may make the server's memory grow by the megabytes, while its
// connections are open.
var floods = map[string]struct {
	conns  int
	window uint32
	most   float64 // MB
	run    func(*attacker)
}{
	"rapid reset (CVE-2023-44487)": {2, 1 << 16, 40, func(a *attacker) {
		for range 5000 {
			_ = a.WriteRSTStream(a.subscribe(), http2.ErrCodeCancel)
		}
	}},
	"resets that the server makes (CVE-2025-8671)": {2, 1 << 16, 40, func(a *attacker) {
		for range 5000 {
			_ = a.WriteRawFrame(http2.FrameWindowUpdate, 0, a.subscribe(), make([]byte, 4))
		}
	}},
	"CONTINUATION (CVE-2024-27316)": {2, 1 << 16, 40, func(a *attacker) {
		_ = a.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x82}})
		for n := range 20_000 {
			a.block.Reset()
			_ = a.fields.WriteField(hpack.HeaderField{Name: "x", Value: fmt.Sprintf("%01000d", n)})
			_ = a.WriteContinuation(1, false, a.block.Bytes())
		}
	}},
	"headers of the table": {4, 0, 40, func(a *attacker) {
		for range 250 {
			a.request("GET", "/nothing", true, 20, 3900)
		}
	}},
	"large headers, untaken answers": {4, 0, 60, func(a *attacker) { // the requests have 65 MB
		for range 250 {
			a.request("GET", "/nothing", true, 13, 5000)
		}
	}},
	"streams with a window of 0": {1, 0, 40, func(a *attacker) {
		for range 250 {
			a.subscribe()
		}
	}},
	"10,000 streams": {1, 1 << 16, 40, func(a *attacker) {
		for range 10_000 {
			a.subscribe()
		}
	}},
	"SETTINGS": {2, 1 << 16, 40, func(a *attacker) {
		for n := range uint32(20_000) {
			_ = a.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: n}, http2.Setting{ID: http2.SettingHeaderTableSize, Val: n})
		}
	}},
	"PING": {2, 1 << 16, 40, func(a *attacker) {
		for range 20_000 {
			_ = a.WritePing(false, [8]byte{})
		}
	}},
	"empty DATA": {2, 1 << 16, 40, func(a *attacker) {
		stream := a.request("POST", "/broadcast", false, 0, 0)
		for range 20_000 {
			_ = a.WriteData(stream, false, nil)
		}
	}},
}

// TestHTTP2Floods attacks herald over HTTP/2, with and without TLS, while another client has a stream over HTTP/1.1.
// That client must get a record during each attack. The server's memory must be bounded. After each attack streams,
// connections, goroutines and files must be as before.
func TestHTTP2Floods(t *testing.T) {
	b := devBroker(t)
	flags := []string{"--topic=notifications", "--insecure-no-auth", "--enable-publish", "--max-streams-per-user=10000", "--log-level=info"}
	plain := newProcess(t, "serve", append([]string{"--brokers=" + b.addresses[0], "--group=" + topicName(t, "group"), "--replica=test"}, flags...)...)
	for name, h := range map[string]*herald{"plain": plain, "TLS": newSecured(t, b, flags...)} {
		t.Run(name, func(t *testing.T) {
			h.Start()
			dialFor := func(protocol string) func() net.Conn {
				return func() net.Conn {
					conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", h.public)
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(func() { _ = conn.Close() })
					_ = conn.SetDeadline(time.Now().Add(patience))
					if name == "TLS" {
						return tls.Client(conn, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{protocol}}) //nolint:gosec // not what the test is about
					}
					return conn
				}
			}
			alice := &lightStream{conn: dialFor("http/1.1")(), next: make(map[string]int)}
			if err := alice.begin(t.Context(), h.public, "alice", ""); err != nil {
				t.Fatal(err)
			}
			count := 0
			for name, flood := range floods {
				before := sample(h)
				var attackers []*attacker
				for range flood.conns {
					a := newAttacker(t, dialFor("h2"), flood.window)
					attackers = append(attackers, a)
					flood.run(a)
				}
				b.produce(t, record("notifications", "eve", strings.Repeat("e", 10_000)), record("notifications", "alice", fmt.Sprint("n ", count)))
				count++
				if err := alice.ReadTo(map[string]int{"n": count}); err != nil {
					t.Fatalf("%s: alice: %v", name, err)
				}
				during := sample(h)
				t.Logf("%s: %.0f MB before, %.0f MB during; %v streams, %v goroutines", name, before.memory, during.memory, during.streams, during.goroutines)
				if grown := during.memory - before.memory; grown > flood.most && !raceDetector {
					t.Errorf("%s: memory grew by %.0f MB, want %.0f MB at the most", name, grown, flood.most)
				}
				if most := float64(250*flood.conns + 1); during.streams > most {
					t.Errorf("%s: %v streams, want %v at the most", name, during.streams, most)
				}
				for _, a := range attackers {
					_ = a.conn.Close()
				}
				waitFor(t, name+": streams, connections, goroutines and files are as before", func(context.Context) bool {
					now := sample(h)
					return now.streams == 1 && now.connections == 1 && now.goroutines <= before.goroutines+10 && now.files <= before.files+5
				})
			}
		})
	}
}

// usage is what a herald uses.
type usage struct{ memory, streams, connections, goroutines, files float64 }

func sample(h *herald) usage {
	h.t.Helper()
	return usage{
		h.Metric("process_resident_memory_bytes") / 1e6, h.Metric("herald_streams"), h.Metric("herald_http_connections"),
		h.Metric("go_goroutines"), h.Metric("process_open_fds"),
	}
}
