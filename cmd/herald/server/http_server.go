package server

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/labstack/echo/v4"
	"golang.org/x/time/rate"
)

const (
	readHeaderTimeout = 10 * time.Second  // for a request's header
	readTimeout       = 30 * time.Second  // for a whole request; streams are exempt
	answerTimeout     = 10 * time.Second  // for a request without a body, and for a client to take an answer; streams are exempt
	publishTimeout    = time.Minute       // for a request with a body and its answer, which may wait for Kafka
	unreadTimeout     = time.Second       // for the rest of a body that no handler reads
	idleTimeout       = 150 * time.Second // between two requests on a connection; see deploy/PROXIES.md
	maxHeader         = 88 << 10          // bytes of a request's header, with room for an event id of 64 KiB and a token of 16 KiB; net/http accepts 4 KiB more
	maxAdminHeader    = 32 << 10
)

// newHTTPServer returns a server that does not wait for slow clients.
func newHTTPServer(handler http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler: handler, ReadHeaderTimeout: readHeaderTimeout, ReadTimeout: readTimeout, WriteTimeout: publishTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(&netHTTPLog{Handler: log.Handler(), lines: oncePerSecond()}, slog.LevelError),
	}
}

// newPublicServer returns the server of the public listener, with HTTP/2 too.
func newPublicServer(cfg *Config, handler http.Handler) *http.Server {
	s := newHTTPServer(handler, cfg.Logger)
	s.Protocols = protocols()
	s.WriteTimeout = answerTimeout // also of answers that net/http makes without a handler, such as 431
	// An HTTP/2 client that does not read, or is gone, blocks all streams of its connection.
	//
	// A connection keeps no table of response headers (HPACK, RFC 7541): it would take 0.7 KiB, and a connection has
	// few responses. The table of request headers keeps the standard's size. With a smaller one, net/http would
	// not understand a client that sends two requests before it has read the server's SETTINGS.
	s.HTTP2 = &http.HTTP2Config{
		WriteByteTimeout: cfg.WriteTimeout, SendPingTimeout: cfg.Heartbeat, PingTimeout: cfg.WriteTimeout,
		MaxEncoderHeaderTableSize: 1,
	}
	if cfg.Certificate != nil {
		s.TLSConfig = cfg.Certificate.Config()
	}
	return s
}

// protocols returns HTTP/1.1 and HTTP/2. HTTP/2 without TLS (RFC 9113, section 3.3) is for proxies that
// carry many streams over one connection.
func protocols() *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetHTTP2(true)
	p.SetUnencryptedHTTP2(true)
	return p
}

// netHTTPLog passes net/http's messages on, at most one a second: any client can cause them. Messages about a client
// that does not speak the protocol get the level debug.
type netHTTPLog struct {
	slog.Handler
	lines *rate.Limiter
}

// Handle implements [slog.Handler].
func (l *netHTTPLog) Handle(ctx context.Context, r slog.Record) error {
	for _, fault := range []string{"http: TLS handshake error", "http2: server: error reading preface", "http2: server connection error"} {
		if strings.HasPrefix(r.Message, fault) {
			r.Level = slog.LevelDebug
		}
	}
	if !l.Enabled(ctx, r.Level) || !l.lines.Allow() {
		return nil
	}
	return l.Handler.Handle(ctx, r)
}

// holdConnection keeps the connection of a request open while the handler runs, and gives a request with a body
// the time for it.
func (s *Server) holdConnection(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		r := c.Request()
		defer s.limited.Hold(r.Context())()
		if r.ContentLength != 0 {
			_ = http.NewResponseController(c.Response().Writer).SetWriteDeadline(time.Now().Add(publishTimeout))
		}
		return next(c)
	}
}

// discardUnreadBody gives up the rest of a body that the handler has not read. Otherwise net/http waits
// for the rest as long as a request may take, and the connection counts as busy meanwhile.
func discardUnreadBody(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		err := next(c)
		if r := c.Request(); r.ContentLength != 0 && r.ProtoMajor == 1 {
			_ = http.NewResponseController(c.Response().Writer).SetReadDeadline(time.Now().Add(unreadTimeout))
		}
		return err
	}
}

// shutdown waits until the requests under way have ended. When ctx ends first, it cuts them off.
func shutdown(ctx context.Context, s *http.Server) error {
	if err := s.Shutdown(ctx); err != nil {
		return s.Close()
	}
	return nil
}
