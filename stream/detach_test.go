package stream

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// detach serves the site's handler through [Detach], as the server does.
func detach(start func(*httptest.Server)) func(*httptest.Server) {
	return func(s *httptest.Server) {
		s.Config.Handler = Detach(s.Config.Handler, time.Minute)
		start(s)
	}
}

// lockedBuffer is a buffer that several goroutines write to.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// TestDetachedHandlerPanics has handlers panic on their own goroutine. The client must notice that the response was
// cut, and the server must survive and log the panic with the place where it happened.
func TestDetachedHandlerPanics(t *testing.T) {
	var out lockedBuffer
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/abort" {
			panic(http.ErrAbortHandler)
		}
		panic("the handler's own words")
	}))
	s.Config.ErrorLog = slog.NewLogLogger(slog.NewTextHandler(&out, nil), slog.LevelError)
	detach(overHTTP2(time.Minute))(s)
	defer s.Close()
	for _, path := range []string{"/abort", "/panic", "/abort"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if res, err := s.Client().Do(req); err == nil {
			_ = res.Body.Close()
			t.Errorf("%s: the answer is %s, want an error", path, res.Status)
		}
	}
	for deadline := time.Now().Add(20 * time.Second); !strings.Contains(out.String(), "panic serving") && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond) // net/http resets the stream before it logs
	}
	if text := out.String(); strings.Count(text, "panic serving") != 1 || !strings.Contains(text, "the handler's own words") || !strings.Contains(text, "TestDetachedHandlerPanics") {
		t.Errorf("the log is %q, want one panic with its place", text)
	}
}

// TestDetachedMiddlewarePanics has a middleware panic after the handler has opened a stream. The stream must end,
// and its client must notice.
func TestDetachedMiddlewarePanics(t *testing.T) {
	var out lockedBuffer
	s := serveWith(t, Config{Heartbeat: time.Hour}, func(s *httptest.Server) {
		s.Config.ErrorLog = slog.NewLogLogger(slog.NewTextHandler(&out, nil), slog.LevelError)
		detach(overHTTP2(time.Minute))(s)
	}, func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			_ = next(c)
			panic("too late")
		}
	})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"alice", nil)
	if err != nil {
		t.Fatal(err)
	}
	if res, err := s.Client().Do(req); err == nil { // the reset may overtake the head of the response
		if text, err := io.ReadAll(res.Body); err == nil {
			t.Errorf("the response ended cleanly with %q, want an error", text)
		}
		_ = res.Body.Close()
	}
	s.awaitEnded(t, "client", 1)
	for deadline := time.Now().Add(20 * time.Second); !strings.Contains(out.String(), "too late"); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the log is %q, want the panic", out.String())
		}
	}
}

// TestDetachedStreamFreesItsRequest checks that an open stream keeps nothing of what its handler and the middleware
// have needed.
func TestDetachedStreamFreesItsRequest(t *testing.T) {
	type key struct{}
	freed := make(chan string, 2)
	s := serveWith(t, Config{Heartbeat: time.Hour}, detach(overHTTP2(time.Minute)), func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			inEcho, inContext := new([1 << 10]byte), new([1 << 10]byte)
			runtime.AddCleanup(inEcho, func(what string) { freed <- what }, "Echo's context")
			runtime.AddCleanup(inContext, func(what string) { freed <- what }, "the request's context")
			c.Set("kept", inEcho)
			c.SetRequest(c.Request().WithContext(context.WithValue(c.Request().Context(), key{}, inContext)))
			return next(c)
		}
	})
	c := openWith(t, s.Client(), s.url+"alice", "")
	c.next()
	got := make(map[string]bool)
	for deadline := time.Now().Add(20 * time.Second); len(got) < 2; {
		runtime.GC()
		select {
		case what := <-freed:
			got[what] = true
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("only these are freed: %v", got)
		}
	}
	if n := testutil.ToFloat64(s.hub.metrics.open); n != 1 {
		t.Errorf("%v streams are open, want 1", n)
	}
	put(t, s.producer, "shared", "alice", "still there")
	if e := c.nextButCheckpoint(); e.data != "still there" {
		t.Errorf("got %+v", e)
	}
}

// TestHandlerOutlivesItsStream opens and abandons streams over HTTP/2, and asks polls. A handler must return only after
// its stream has left: net/http counts handlers and so bounds the streams of a connection, and the client of a poll may
// send its next poll as soon as it has the answer.
func TestHandlerOutlivesItsStream(t *testing.T) {
	for name, test := range map[string]struct {
		serve func(start func(*httptest.Server)) func(*httptest.Server)
		start func(*httptest.Server)
	}{
		"detached":     {detach, overHTTP2(time.Minute)},
		"not detached": {direct, overHTTP2(time.Minute)},
		"HTTP/1.1":     {direct, (*httptest.Server).Start},
	} {
		t.Run(name, func(t *testing.T) {
			var s *site
			left := make(chan float64, 1)
			s = serveWith(t, Config{Heartbeat: time.Hour, Admission: Admission{Streams: 1}}, test.serve(func(server *httptest.Server) {
				next := server.Config.Handler
				server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					defer func() { left <- testutil.ToFloat64(s.hub.metrics.open) }() // net/http may run the next request
					next.ServeHTTP(w, r)
				})
				test.start(server)
			}))
			for n := range 300 {
				if name != "HTTP/1.1" && n%2 == 0 { // without HTTP/2 the handler returns while the stream is open
					ctx, abandon := context.WithCancel(t.Context())
					req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"alice", nil)
					if err != nil {
						t.Fatal(err)
					}
					res, err := s.Client().Do(req)
					if err != nil {
						t.Fatal(err)
					}
					abandon()
					_ = res.Body.Close()
				} else if status := pollOnce(t, s); status != http.StatusOK {
					t.Fatalf("request %d: the poll has the status %d, want 200: the stream before it has not left", n, status)
				}
				if open := <-left; open != 0 {
					t.Fatalf("request %d: the handler has returned with %v open streams", n, open)
				}
			}
		})
	}
}

// direct serves the site's handler as it is.
func direct(start func(*httptest.Server)) func(*httptest.Server) { return start }

// pollOnce asks a poll that is answered at once, and returns its status.
func pollOnce(t *testing.T, s *site) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"alice&wait=0", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "application/json")
	res, err := s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		t.Fatal(err)
	}
	return res.StatusCode
}
