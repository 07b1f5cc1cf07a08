package server

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestIdleStreamsHaveNoGoroutine opens streams over each kind of connection. The server takes the connections over and
// watches them without a goroutine each, sends them a record, and notices when their clients leave.
func TestIdleStreamsHaveNoGoroutine(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has the watcher of connections")
	}
	dir, err := os.MkdirTemp("", "h") //nolint:usetesting // the path of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a test's
	unix := "unix:" + filepath.Join(dir, "s")
	for _, test := range []struct{ name, listen, trusted, header string }{
		{"TCP", "127.0.0.1:0", "", ""},
		{"Unix socket", unix, "", ""},
		{"PROXY version 1", "127.0.0.1:0", "127.0.0.0/8", "PROXY TCP4 198.51.100.7 127.0.0.1 51007 80\r\n"},
		{"PROXY version 2 on a Unix socket", unix, "unix", "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xc6\x33\x64\x07\x7f\x00\x00\x01\xc7\x3f\x00\x50"},
		{"others without PROXY", "127.0.0.1:0", "10.0.0.0/8", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			srv, _ := startServerWith(t, func(cfg *Config) {
				cfg.Listen = test.listen
				if test.trusted != "" {
					cfg.TrustedProxies, cfg.ProxyProtocol = []string{test.trusted}, true
				}
			})
			open := func() (net.Conn, *bufio.Reader) { // a stream, up to its first checkpoint
				conn, err := new(net.Dialer).DialContext(t.Context(), srv.Addr().Network(), srv.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
				if _, err := io.WriteString(conn, test.header+"GET /events?user=alice HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
					t.Fatal(err)
				}
				r := bufio.NewReader(conn)
				readUntil(t, r, "checkpoint")
				return conn, r
			}
			first, events := open()
			defer first.Close() //nolint:errcheck // a test's
			time.Sleep(100 * time.Millisecond)
			before := runtime.NumGoroutine()
			const streams = 40
			var conns []net.Conn
			for range streams {
				conn, _ := open()
				conns = append(conns, conn)
			}
			await(t, "there is a goroutine for each of 40 streams", false, func() bool { return runtime.NumGoroutine() >= before+streams/2 })
			if err := publishOver(srv.Addr(), test.header); err != nil {
				t.Fatal(err)
			}
			readUntil(t, events, "data: over the socket")
			for _, conn := range conns {
				_ = conn.Close()
			}
			await(t, "connections", 1, srv.limited.Open)
		})
	}
}

// readUntil reads lines until one has the text.
func readUntil(t *testing.T, r *bufio.Reader, text string) {
	t.Helper()
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("before %q: %v", text, err)
		}
		if strings.Contains(line, text) {
			return
		}
	}
}

// publishOver publishes a notification for alice over a connection of its own.
func publishOver(at net.Addr, header string) error {
	conn, err := net.Dial(at.Network(), at.String()) //nolint:noctx // on this machine
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // a test's
	const body = "over the socket"
	_, err = fmt.Fprintf(conn, "%sPOST /users/alice/notifications HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", header, len(body), body)
	if err != nil {
		return err
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode >= 300 {
		text, _ := io.ReadAll(res.Body)
		return fmt.Errorf("%s %s", res.Status, text)
	}
	return nil
}

// TestClientAddressOfConnections wants the limit by address to count the client of a PROXY header, and of a Unix
// socket's X-Forwarded-For.
func TestClientAddressOfConnections(t *testing.T) {
	for _, test := range []struct {
		name, peer, headers, want string
		trusted                   []string
	}{
		{"Unix socket", "@", "", "unix", nil},
		{"Unix socket, not trusted", "@", "203.0.113.7", "unix", []string{"10.0.0.0/8"}},
		{"Unix socket, trusted", "@", "203.0.113.7", "203.0.113.7", []string{"unix"}},
		{"Unix socket, trusted, with a second proxy", "@", "203.0.113.7, 10.0.0.1", "203.0.113.7", []string{"unix", "10.0.0.0/8"}},
		{"Unix socket, trusted, without the header", "@", "", "unix", []string{"unix"}},
		{"TCP, with only unix trusted", "127.0.0.1:5", "203.0.113.7", "127.0.0.1", []string{"unix"}},
		{"a PROXY header's client sends the header", "198.51.100.7:5", "203.0.113.7", "198.51.100.7", []string{"10.0.0.0/8"}},
		{"a PROXY header's client is a proxy", "10.0.0.1:5", "203.0.113.7", "203.0.113.7", []string{"10.0.0.0/8"}},
	} {
		cfg := testConfig(nil)
		cfg.TrustedProxies = test.trusted
		a, err := newClientAddresses(&cfg)
		if err != nil {
			t.Fatal(err)
		}
		r := &http.Request{RemoteAddr: test.peer, Header: http.Header{}}
		if test.headers != "" {
			r.Header.Set("X-Forwarded-For", test.headers)
		}
		if got := a.of(r); got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
}

// TestProxyProtocolIsConfigured wants each mistake refused.
func TestProxyProtocolIsConfigured(t *testing.T) {
	cfg := testConfig(nil)
	cfg.ProxyProtocol = true
	if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), "ProxyProtocol needs TrustedProxies") {
		t.Errorf("without trusted proxies: %v", err)
	}
	cfg.TrustedProxies = []string{"unix"}
	if err := cfg.Validate(); err != nil {
		t.Error(err)
	}
	cfg = testConfig(nil)
	cfg.Listen, cfg.InsecureSessionCookie = "unix:/run/herald.sock", true
	if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), "listen on loopback") {
		t.Errorf("a cookie without Secure over a Unix socket: %v", err)
	}
}
