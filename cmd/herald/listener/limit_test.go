package listener

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// limitedServer serves with at most that many connections, and counts the connections that it closes to
// make room. Requests for /short and /body are answered at once. A handler takes the connection of /taken
// over and leaves it open. Other requests last until their client leaves. A header of more than 4 KiB is too
// large.
func limitedServer(t *testing.T, most int, start func(*httptest.Server)) (*httptest.Server, *Limited, *atomic.Int64) {
	t.Helper()
	evicted := new(atomic.Int64)
	var listener *Limited
	taken := new(sync.Map)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer listener.Hold(r.Context())()
		_ = http.NewResponseController(w).Flush()
		switch r.URL.Path {
		case "/short":
		case "/body":
			_, _ = io.WriteString(w, "x")
		case "/taken":
			conn, _, err := http.NewResponseController(w).Hijack()
			taken.Store(conn, err) // otherwise the garbage collector would close the connection
		default:
			<-r.Context().Done()
		}
	}))
	listener = Limit(s.Listener, most, func() { evicted.Add(1) })
	s.Listener, s.Config.ConnState, s.Config.ConnContext = listener, listener.ConnState, listener.ConnContext
	s.Config.ReadHeaderTimeout, s.Config.MaxHeaderBytes = time.Minute, 4<<10
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	start(s)
	t.Cleanup(s.Close)
	t.Cleanup(s.CloseClientConnections)
	t.Cleanup(taken.Clear)
	return s, listener, evicted
}

// dial connects to the server without HTTP's help.
func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// await waits until get returns want.
func await(t *testing.T, what string, want int, get func() int) {
	t.Helper()
	got := get()
	for deadline := time.Now().Add(20 * time.Second); got != want && time.Now().Before(deadline); got = get() {
		time.Sleep(10 * time.Millisecond)
	}
	if got != want {
		t.Fatalf("%s: %d, want %d", what, got, want)
	}
}

// ask sends a request and waits for the head of the answer.
func ask(conn net.Conn, path string, patience time.Duration) error {
	if _, err := io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		return err
	}
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err == nil && line != "HTTP/1.1 200 OK\r\n" {
		err = errors.New(line)
	}
	return err
}

// lives returns an error if the server has closed the connection.
func lives(conn net.Conn) error {
	const enough = 20 * time.Millisecond
	for took := time.Duration(0); took == 0 || took > 2*enough; { // after a pause of the machine, the time may be up before the read
		begun := time.Now()
		_ = conn.SetReadDeadline(begun.Add(enough))
		if _, err := io.Copy(io.Discard, conn); !errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("the connection has ended: %v", err) //nolint:errorlint // nil is the end as well
		}
		took = time.Since(begun)
	}
	return nil
}

// TestConnectionsAreBounded fills the listener with requests. The next connection is served once one of
// the requests has ended, and the listener can close while it is full.
func TestConnectionsAreBounded(t *testing.T) {
	s, listener, _ := limitedServer(t, 2, (*httptest.Server).Start)
	address := listener.Addr().String()
	first, second := dial(t, address), dial(t, address)
	for _, conn := range []net.Conn{first, second} {
		if err := ask(conn, "/", 20*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	third := dial(t, address)
	if err := ask(third, "/", 200*time.Millisecond); err == nil {
		t.Error("a third connection was served, want two")
	}
	if err := lives(second); err != nil {
		t.Error(err)
	}
	_ = first.Close()
	_ = third.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := third.Read(make([]byte, 1)); err != nil {
		t.Errorf("when one has gone: %v, want an answer", err)
	}
	dial(t, address) // waits for a place
	time.Sleep(50 * time.Millisecond)
	if err := s.Config.Close(); err != nil {
		t.Error(err)
	}
	await(t, "connections", 0, listener.Open)
}

// TestRoomByIdleness has a new connection wait while the only place has a request under way. When the
// request ends, its idle connection makes room.
func TestRoomByIdleness(t *testing.T) {
	release := make(chan struct{})
	var listener *Limited
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer listener.Hold(r.Context())()
		if r.URL.Path == "/" {
			_ = http.NewResponseController(w).Flush()
			<-release
		}
	}))
	listener = Limit(s.Listener, 1, func() {})
	s.Listener, s.Config.ConnState, s.Config.ConnContext = listener, listener.ConnState, listener.ConnContext
	s.Start()
	defer s.Close()
	if err := ask(dial(t, listener.Addr().String()), "/", 20*time.Second); err != nil {
		t.Fatal(err)
	}
	newcomer := dial(t, listener.Addr().String())
	time.Sleep(50 * time.Millisecond) // most likely it is accepted meanwhile
	close(release)
	if err := ask(newcomer, "/short", 20*time.Second); err != nil {
		t.Error(err)
	}
}

// startPlain serves HTTP/1 and HTTP/2 without TLS.
func startPlain(s *httptest.Server) {
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
}

// startSecure serves HTTP/1 and HTTP/2 with TLS.
func startSecure(s *httptest.Server) {
	s.EnableHTTP2 = true
	s.StartTLS()
}

const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// untaken is a connection of HTTP/2 with a request for /body, whose answer the client does not take: its window is 0.
// The request has that many headers of 1,000 bytes.
func untaken(headers int) string {
	var text, block bytes.Buffer
	text.WriteString(preface)
	fields, frames := hpack.NewEncoder(&block), http2.NewFramer(&text, nil)
	request := [][2]string{{":method", "GET"}, {":scheme", "http"}, {":authority", "h"}, {":path", "/body"}}
	for range headers {
		request = append(request, [2]string{"x", strings.Repeat("x", 1000)})
	}
	for _, f := range request {
		_ = fields.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}) // a write to memory does not fail
	}
	_ = frames.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	_ = frames.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true})
	return text.String()
}

// floods are the connections of TestHalfOpenFlood.
var floods = map[string]struct {
	start func(*httptest.Server)
	begin string // what each connection of the flood sends
	idle  bool   // the connection has had an answer
}{
	"nothing":            {startPlain, "", false},
	"half a line":        {startPlain, "GET /ev", false},
	"half a header":      {startPlain, "GET / HTTP/1.1\r\nHost: localhost\r\n", false},
	"kept alive":         {startPlain, "GET /short HTTP/1.1\r\nHost: localhost\r\n\r\n", true},
	"kept alive, half":   {startPlain, "GET /short HTTP/1.1\r\nHost: localhost\r\n\r\nGET / HTTP/1.1\r\n", true},
	"half HTTP/2":        {startPlain, preface[:10], false},
	"HTTP/2":             {startPlain, preface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00", true},
	"HTTP/2, untaken":    {startPlain, untaken(0), true},
	"HTTP/2, 431":        {startPlain, untaken(8), true}, // net/http answers without a handler
	"TLS, nothing":       {startSecure, "", false},
	"TLS, half of hello": {startSecure, "\x16\x03\x01\x02\x00\x01\x00\x01", false},
}

// TestHalfOpenFlood fills the server with connections that send nothing, half a request, or nothing after
// an answer, or that do not take an answer. Each new connection gets the place of the longest-waiting connection; a connection with a
// request or an HTTP/2 stream under way stays open.
func TestHalfOpenFlood(t *testing.T) {
	for name, test := range floods {
		t.Run(name, func(t *testing.T) {
			const most = 8
			s, listener, evicted := limitedServer(t, most, test.start)
			address := listener.Addr().String()
			transport := s.Client().Transport.(*http.Transport)
			if s.TLS == nil {
				transport.Protocols = new(http.Protocols)
				transport.Protocols.SetUnencryptedHTTP2(true)
			}
			get := func(path string) *http.Response {
				t.Helper()
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				t.Cleanup(cancel)
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+path, nil)
				if err != nil {
					t.Fatal(err)
				}
				res, err := s.Client().Do(req)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = res.Body.Close() })
				return res
			}
			stream := get("/") //nolint:bodyclose // as above
			if stream.ProtoMajor != 2 {
				t.Fatal(stream.Proto)
			}
			raw := func() net.Conn {
				conn := dial(t, address)
				if s.TLS != nil {
					conn = tls.Client(conn, &tls.Config{RootCAs: transport.TLSClientConfig.RootCAs, ServerName: "example.com", MinVersion: tls.VersionTLS12})
				}
				return conn
			}
			stays := raw()
			if err := ask(stays, "/", 20*time.Second); err != nil {
				t.Fatal(err)
			}
			var flood []net.Conn
			for range 2 * most {
				conn := dial(t, address)
				flood = append(flood, conn)
				if _, err := io.WriteString(conn, test.begin); err != nil {
					t.Fatal(err)
				}
				if test.idle {
					if _, err := conn.Read(make([]byte, 1000)); err != nil {
						t.Fatal(err)
					}
				}
			}
			await(t, "connections that gave way", most+2, func() int { return int(evicted.Load()) })
			if n := listener.Open(); n != most {
				t.Errorf("%d connections, want %d", n, most)
			}
			newcomer := raw()
			if err := ask(newcomer, "/", 20*time.Second); err != nil {
				t.Errorf("a newcomer: %v", err)
			}
			await(t, "connections that gave way", most+3, func() int { return int(evicted.Load()) })
			living := 0
			for i, conn := range flood {
				switch err := lives(conn); {
				case err == nil:
					living++
				case i >= most+3 && !test.idle: // an answer may be there before the connection counts as idle
					t.Errorf("connection %d of the flood: %v", i, err)
				}
			}
			if want := most - 3; living != want {
				t.Errorf("%d connections of the flood live, want %d", living, want)
			}
			for _, conn := range []net.Conn{stays, newcomer} {
				if err := lives(conn); err != nil {
					t.Error(err)
				}
			}
			ended := make(chan error, 1)
			go func() {
				_, err := stream.Body.Read(make([]byte, 1))
				ended <- err
			}()
			select {
			case err := <-ended:
				t.Errorf("the stream of HTTP/2 has ended: %v", err)
			case <-time.After(100 * time.Millisecond):
			}
		})
	}
}
