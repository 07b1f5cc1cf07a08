package listener

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
)

// proxyServer answers each request with the client's address. Its peers are trusted proxies or not.
func proxyServer(t *testing.T, trusted bool) (address string, refused *atomic.Value, limited *Limited) {
	t.Helper()
	plain, err := Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	limited = Limit(plain, 10, func() {})
	refused = new(atomic.Value)
	l := ProxyProtocol(limited, func(net.Addr) bool { return trusted }, func(_ net.Addr, err error) { refused.Store(err) })
	s := &http.Server{
		ConnState: limited.ConnState, ReadHeaderTimeout: time.Minute, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.RemoteAddr) }), //nolint:gosec // no page reads it
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	t.Cleanup(func() {
		_ = s.Close()
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return limited.Addr().String(), refused, limited
}

const plainRequest = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"

// v2 returns a header of version 2 (section 2.2 of the specification).
func v2(command, family byte, length int, rest string) string {
	header := append([]byte("\r\n\r\n\x00\r\nQUIT\n"), 0x20|command, family)
	return string(binary.BigEndian.AppendUint16(header, uint16(length))) + rest
}

// TestProxyHeaders sends connections that begin with headers of both versions, and with what attackers send. The answer
// has the address in the header, or there is not one byte of an answer.
func TestProxyHeaders(t *testing.T) {
	const v4 = "\xc6\x33\x64\x07\x7f\x00\x00\x01\xc7\x3f\x00\x50" // 198.51.100.7:51007 to 127.0.0.1:80
	v6 := strings.Repeat("\x20\x01\x0d\xb8", 8) + "\xc7\x3f\x00\x50"
	const peer = "127.0.0.1:" // the address of the connection itself
	for _, test := range []struct {
		name, sent  string
		trusted     bool
		from        string // the beginning of the address in the answer; empty: no answer
		refused     error  // that is reported; nil: none
		anyReported bool
	}{
		{"version 1, IPv4", "PROXY TCP4 198.51.100.7 127.0.0.1 51007 80\r\n", true, "198.51.100.7:51007", nil, false},
		{"version 1, IPv6", "PROXY TCP6 2001:db8::7 2001:db8::1 51007 80\r\n", true, "[2001:db8::7]:51007", nil, false},
		{"version 1, unknown", "PROXY UNKNOWN\r\n", true, peer, nil, false},
		{"version 2, IPv4", v2(1, 0x11, 12, v4), true, "198.51.100.7:51007", nil, false},
		{"version 2, QUIC", v2(1, 0x12, 12, v4), true, "198.51.100.7:51007", nil, false},
		{"version 2, IPv6", v2(1, 0x21, 36, v6), true, "[2001:db8:2001:db8:2001:db8:2001:db8]:51007", nil, false},
		{"version 2, TLVs", v2(1, 0x11, 12+3+300, v4+"\x04\x01\x2c"+strings.Repeat("x", 300)), true, "198.51.100.7:51007", nil, false},
		{"version 2, local", v2(0, 0x00, 0, ""), true, peer, nil, false},
		{"version 2, local with an address", v2(0, 0x11, 12, v4), true, peer, nil, false},
		{"version 2, Unix socket named as an address", v2(1, 0x31, 216, "10.0.0.1:80"+strings.Repeat("\x00", 205)), true, peer, nil, false},
		{"none from a proxy", "", true, "", ErrNoProxyHeader, true},
		{"garbage", strings.Repeat("\xff", 300), true, "", ErrNoProxyHeader, true},
		{"version 1, too long", "PROXY TCP4 " + strings.Repeat("1", 200) + "\r\n", true, "", nil, true},
		{"version 1, endless", "PROXY " + strings.Repeat("9", 100_000), true, "", nil, true},
		{"version 1, a name", "PROXY TCP4 localhost 127.0.0.1 1 80\r\n", true, "", nil, true},
		{"version 1, two headers", "PROXY TCP4 198.51.100.7 127.0.0.1 51007 80\r\nPROXY TCP4 10.0.0.1 127.0.0.1 1 80\r\n", true, "400", nil, false},
		{"version 2, too long", v2(1, 0x11, 65535, v4+strings.Repeat("x", 65535-12)), true, "", nil, true},
		{"version 2, too short", v2(1, 0x11, 3, "abc"), true, "", nil, true},
		{"version 2, unknown family", v2(1, 0x77, 12, v4), true, "", nil, true},
		{"version 2, unknown command", v2(7, 0x11, 12, v4), true, "", nil, true},
		{"version 2, wrong TLV length", v2(1, 0x11, 14, v4+"\x04\xff"), true, "198.51.100.7:51007", nil, false},
		{"none from others", "", false, peer, nil, false},
		{"version 1 from others", "PROXY TCP4 198.51.100.7 127.0.0.1 51007 80\r\n", false, "", ErrForeignProxyHeader, true},
		{"version 2 from others", v2(1, 0x11, 12, v4), false, "", ErrForeignProxyHeader, true},
		{"a method like a header", "PROXYX / HTTP/1.1\r\nHost: localhost\r\n\r\n", false, "", ErrForeignProxyHeader, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			address, refused, _ := proxyServer(t, test.trusted)
			conn := dial(t, address)
			go func() { _, _ = io.WriteString(conn, test.sent+plainRequest) }() // the server may not read it all
			answer, _ := io.ReadAll(conn)
			_, body, _ := strings.Cut(string(answer), "\r\n\r\n")
			if test.from == "400" {
				body = strings.TrimPrefix(string(answer), "HTTP/1.1 ")
			}
			if test.from == "" && len(answer) > 0 || !strings.HasPrefix(body, test.from) {
				t.Errorf("answer %q, want from %q", answer, test.from)
			}
			err, _ := refused.Load().(error)
			if (err != nil) != test.anyReported || test.refused != nil && !errors.Is(err, test.refused) {
				t.Errorf("reported %v, want %v", err, test.refused)
			}
		})
	}
}

// TestProxyHeaderCountsForRoom sends a header in two pieces. The connection then counts as one of the network in the header.
func TestProxyHeaderCountsForRoom(t *testing.T) {
	address, _, limited := proxyServer(t, true)
	conn := dial(t, address)
	for _, piece := range []string{v2(1, 0x11, 12, "\xc6\x33"), "\x64\x07\x7f\x00\x00\x01\xc7\x3f\x00\x50GET / HT"} {
		if _, err := io.WriteString(conn, piece); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	await(t, "connections of the client's network", 1, func() int {
		limited.mu.Lock()
		defer limited.mu.Unlock()
		count := 0
		for prefix, n := range limited.waiting.networks {
			if prefix.String() == "198.51.100.7/32" {
				count = n.conns.Len()
			}
		}
		return count
	})
	if _, err := io.WriteString(conn, "TP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, _ := io.ReadAll(res.Body); string(body) != "198.51.100.7:51007" {
		t.Errorf("from %s", body)
	}
}

// TestSilentPeers connects and sends nothing, or a part of a header. Neither is reported as long as it has sent nothing,
// and both end after the time-out for headers.
func TestSilentPeers(t *testing.T) {
	for sent, reported := range map[string]bool{"": false, "PROXY TCP4 198.51": true} {
		t.Run(sent, func(t *testing.T) {
			t.Parallel()
			address, refused, _ := proxyServer(t, true)
			conn := dial(t, address)
			if _, err := io.WriteString(conn, sent); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			if b, err := io.ReadAll(conn); err != nil || len(b) > 0 {
				t.Errorf("%q, %v: want nothing", b, err)
			}
			if took := time.Since(began); took > proxyHeaderTimeout+20*time.Second {
				t.Errorf("closed after %v", took)
			}
			if (refused.Load() != nil) != reported {
				t.Errorf("reported: %v, want it: %v", refused.Load(), reported)
			}
		})
	}
}

// FuzzProxyHeader reads headers: no text may make the reader panic or give an address without a header.
func FuzzProxyHeader(f *testing.F) {
	f.Add([]byte("PROXY TCP4 198.51.100.7 127.0.0.1 51007 80\r\n"))
	f.Add([]byte(v2(1, 0x11, 12, "\xc6\x33\x64\x07\x7f\x00\x00\x01\xc7\x3f\x00\x50")))
	f.Add([]byte(v2(1, 0x31, 216, strings.Repeat("a", 216))))
	f.Fuzz(func(t *testing.T, sent []byte) {
		header, err := proxyproto.Read(bufio.NewReaderSize(strings.NewReader(string(sent)), proxyHeaderBuffer))
		for _, trusted := range []bool{false, true} {
			client, refused := clientOf(header, err, trusted)
			if client != nil && (!trusted || refused != nil || networkOf(client).Bits() < 0) {
				t.Errorf("%q: %v, %v", sent, client, refused)
			}
		}
	})
}
