package main

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// dialWebSocket connects to a server whose /events is handler.
func dialWebSocket(t *testing.T, handler http.HandlerFunc) *websocket.Conn {
	t.Helper()
	server := httptest.NewServer(withTransports(handler))
	t.Cleanup(server.Close)
	conn, _, err := websocket.Dial(t.Context(), strings.Replace(server.URL, "http", "ws", 1)+webSocketPath+"?user=alice&since=nonsense", nil) //nolint:bodyclose // the library closes it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.CloseNow() })
	return conn
}

// TestWebSocketSaysWhyItIsRefused reads the answer of a server that has no stream for the request.
func TestWebSocketSaysWhyItIsRefused(t *testing.T) {
	conn := dialWebSocket(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != eventsPath || r.URL.Query().Get("user") != "alice" {
			t.Errorf("request for %s", r.URL)
		}
		http.Error(w, "since: want now", http.StatusBadRequest)
	})
	_, _, err := conn.Read(t.Context())
	refusal, _ := errors.AsType[websocket.CloseError](err)
	if refusal.Code != websocket.StatusPolicyViolation || !strings.HasPrefix(refusal.Reason, "since: want now") {
		t.Errorf("the connection ends with %v", err)
	}
}

// TestWebSocketDropsClientThatDoesNotRead writes until the client's and the kernel's buffers are full. The write's
// deadline must end the connection.
func TestWebSocketDropsClientThatDoesNotRead(t *testing.T) {
	ended := make(chan error, 1)
	dialWebSocket(t, func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		for {
			_ = control.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
			if _, err := w.Write(make([]byte, 16<<10)); err != nil {
				<-r.Context().Done() // ends because the connection has
				ended <- err
				return
			}
		}
	})
	if err := <-ended; err == nil {
		t.Error("the write has ended without an error")
	}
}

// TestNotTakenOver checks that Herald cannot take over a connection that net/http shall serve.
func TestNotTakenOver(t *testing.T) {
	server := httptest.NewServer(withTransports(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		if _, _, err := control.Hijack(); !errors.Is(err, http.ErrNotSupported) {
			t.Errorf("Hijack: %v, want %v", err, http.ErrNotSupported)
		}
		for name, err := range map[string]error{
			"SetWriteDeadline": control.SetWriteDeadline(time.Now().Add(time.Minute)), "SetReadDeadline": control.SetReadDeadline(time.Time{}), "Flush": control.Flush(),
		} {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if r.URL.Path != eventsPath {
			t.Errorf("request for %s", r.URL)
		}
	})))
	defer server.Close()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+netHTTPPath, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
}

// TestPages opens the page of some transports in Chromium. Each must receive an event.
func TestPages(t *testing.T) {
	b, err := startBrowser(t.Context())
	if err != nil {
		if os.Getenv("HERALD_REQUIRE_BROWSERS") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	defer b.close()
	brokers, kafka := startBroker(t)
	s, stop, err := startSite(t.Context(), &browserCommand{measureFlags: measureFlags{Brokers: brokers}, Rate: 20}, kafka)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	for _, name := range []string{"sse", "sse-h2", "ws", "longpoll", "poll-1s"} {
		tab, err := b.open(s.url(name))
		if err != nil {
			t.Fatal(err)
		}
		end := time.Now().Add(time.Minute)
		for received := 0; received < 3; time.Sleep(50 * time.Millisecond) {
			if received, err = receivedOf(tab); received < 3 && time.Now().After(end) { // a busy machine may delay an answer
				t.Fatalf("%s: the page has received %d records: %v", name, received, err)
			}
		}
	}
	if cpu, memory := b.watch(t.Context(), time.Second); cpu <= 0 || memory < 10<<20 {
		t.Errorf("Chromium's processes %v took %v of CPU and %v bytes", b.processes(), cpu, memory)
	}
}
