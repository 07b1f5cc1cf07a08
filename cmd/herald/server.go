package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"herald/auth"
	"herald/cmd/herald/listener"
	"herald/consumer"
	"herald/stream"
)

const (
	readHeaderTimeout = 10 * time.Second // for a request's header
	readTimeout       = 30 * time.Second // for all of a request; streams are free of it
	gcPercent         = 50               // memory is what streams cost: 10,000 idle ones take a sixth less by it, for a tenth more CPU in a storm of reconnects
	answerTimeout     = time.Minute      // for a request and its answer; streams are free of it
	unreadTimeout     = time.Second      // for what is left of a body that nobody reads
	idleTimeout       = 30 * time.Second // between requests of a connection
	maxHeader         = 80 << 10         // bytes of a request's header, with an event id of 64 KiB; net/http takes 4 KiB more
	maxAdminHeader    = 32 << 10
)

// server is one Herald: a consumer, the streams fed by it, and two HTTP servers.
type server struct {
	log      *slog.Logger
	consumer *consumer.Consumer
	producer *consumer.Producer
	streams  *stream.Handler
	drain    drainTimes
	draining atomic.Bool

	jwks           *auth.JWKS   // nil: the keys do not change
	revocations    *revocations // nil: there is no topic of them
	public         *http.Server
	publicListener net.Listener
	admin          *http.Server
	adminListener  net.Listener
}

// drainTimes are how the server ends.
type drainTimes struct{ window, timeout time.Duration }

type settings struct {
	serverFlags
	access
	Log         *slog.Logger          // nil: as the flags say
	Consumer    consumer.Config       // without Logger and Registry
	Certificate *listener.Certificate // nil: no TLS
	publishFlags
	Extend func(*echo.Echo, *publisher) // more public routes
}

// newServer listens, so that a port that is taken is told before anything else starts. Its server
// wants one call of run.
func newServer(ctx context.Context, s settings) (*server, error) {
	if err := checkFileLimit(); err != nil {
		return nil, err
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	registry := newRegistry()
	log := s.Log
	if log == nil {
		log = s.logger()
	}
	s.warnOfFileLimit(log)
	hub := stream.NewHub(s.EventTypeHeader, registry)
	s.Consumer.Logger, s.Consumer.Registry, s.Consumer.ReplayCacheBytes = log, registry, s.ReplayCacheBytes
	c, err := consumer.New(s.Consumer, hub)
	if err != nil {
		return nil, err
	}
	front := &frontDoor{auth: s.Auth, revocations: s.Revocations, consumer: c, log: log, refused: counterVec(
		"herald_http_refusals_total", "Requests refused, by reason: token, user, origin, host, keys or quota.", "reason", "token", "user", "origin", "host", "keys", "quota",
	)}
	pub := &publisher{
		producer: consumer.NewProducer(s.Consumer.Brokers, s.Consumer.TLS, s.Consumer.SASL), routes: s.Consumer.Routes, typeHeader: s.EventTypeHeader, front: front, hub: hub,
		maxValue: s.PublishMaxBytes, quota: newQuota(s.PublishRate, s.PublishBurst), repeats: newRepeats(), bodies: newBodies(s.PublishMaxBytes),
		published: counterVec(
			"herald_http_published_total", "Notifications taken by POST, by result: ok, repeated, refused or error.", "result", "ok", "repeated", "refused", "error",
		),
	}
	registry.MustRegister(front.refused, pub.published)
	srv := &server{log: log, consumer: c, producer: pub.producer, drain: drainTimes{s.DrainWindow, s.DrainTimeout}, jwks: s.JWKS}
	srv.streams = stream.NewHandler(stream.Config{
		Hub: hub, Kafka: c, Viewer: front.viewer, Logger: log,
		Heartbeat: s.Heartbeat, WriteTimeout: s.WriteTimeout, Retry: s.Retry, MaxQueue: s.MaxQueueBytes,
		Limits: stream.Limits{Age: s.ReplayMaxAge, Records: s.ReplayMaxRecords}, Admission: s.admission(),
	})

	if s.Revocations != nil {
		if srv.revocations, err = newRevocations(s.Revocations, s.RevocationTopic, s.Consumer, log); err != nil {
			return nil, fmt.Errorf("--revocation-topic: %w", err)
		}
	}
	if s.JWKS != nil {
		registry.MustRegister(s.JWKS)
	}
	e := echo.New()
	e.HTTPErrorHandler = errorAsJSON(log)
	if e.IPExtractor, err = s.addresses(); err != nil {
		return nil, err
	}
	if s.Origins == nil {
		if s.Origins, err = newOrigins(nil); err != nil {
			return nil, err
		}
	}
	if _, insecure := s.Auth.(auth.Insecure); insecure && listener.LoopbackOnly(s.Listen) {
		e.Use(refuseForeignHost(front))
	}
	e.Use(dropUnread, s.Origins.cors(), s.Origins.refuse(front))
	e.GET("/events", srv.streams.Events)
	if s.JWT != nil {
		(&sessions{cookie: s.Cookie, jwt: s.JWT, front: front, publish: s.EnablePublish}).register(e)
	}
	if s.EnablePublish {
		e.POST("/users/:user/notifications", pub.toUser)
		e.POST("/broadcast", pub.toAll)
	}
	if s.Extend != nil {
		s.Extend(e, pub)
	}
	srv.public = httpServer(e, log)
	srv.public.Protocols = protocols()
	// A client of HTTP/2 that does not read, or is gone, holds up all streams of its connection.
	srv.public.HTTP2 = &http.HTTP2Config{WriteByteTimeout: s.WriteTimeout, SendPingTimeout: s.Heartbeat, PingTimeout: s.WriteTimeout}
	admin := srv.adminRoutes(registry)
	if listener.LoopbackOnly(s.AdminListen) {
		admin = onlyOwnHost(admin)
	}
	srv.admin = httpServer(admin, log)
	srv.admin.MaxHeaderBytes = maxAdminHeader
	if s.Certificate != nil {
		srv.public.TLSConfig = s.Certificate.Config()
		registry.MustRegister(certificateExpiry(s.Certificate))
	}

	open, err := listen(ctx, "listen", s.Listen)
	if err != nil {
		return nil, err
	}
	limited := limitConnections(open, registry)
	srv.publicListener, srv.public.ConnState = limited, limited.ConnState
	if srv.adminListener, err = listen(ctx, "admin-listen", s.AdminListen); err != nil {
		_ = srv.publicListener.Close()
		return nil, err
	}
	return srv, nil
}

// httpServer returns a server that gives up slow requests.
func httpServer(handler http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler: handler, ReadHeaderTimeout: readHeaderTimeout, ReadTimeout: readTimeout, WriteTimeout: answerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(&netHTTPLog{Handler: log.Handler()}, slog.LevelError),
	}
}

// netHTTPLog takes the lines of net/http, of which anybody can have many written: at most one a second
// goes to the log, and handshakes that fail at the level debug.
type netHTTPLog struct {
	slog.Handler
	lines gate
}

// Handle implements [slog.Handler].
func (l *netHTTPLog) Handle(ctx context.Context, r slog.Record) error {
	if strings.HasPrefix(r.Message, "http: TLS handshake error") {
		r.Level = slog.LevelDebug
	}
	if !l.Enabled(ctx, r.Level) || !l.lines.pass() {
		return nil
	}
	return l.Handler.Handle(ctx, r)
}

// counterVec returns counters that are there from the start, at 0: a rate of one that appears with
// its first event misses that event.
func counterVec(name, help, label string, values ...string) *prometheus.CounterVec {
	vec := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
	for _, value := range values {
		vec.WithLabelValues(value)
	}
	return vec
}

func newRegistry() *prometheus.Registry {
	registry := prometheus.NewRegistry()
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "herald_build_info", Help: "1; the version is a label.", ConstLabels: prometheus.Labels{"version": buildVersion()},
	})
	build.Set(1)
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), build)
	return registry
}

// run serves until ctx ends, then lets go of the streams.
func (s *server) run(ctx context.Context) error {
	defer s.producer.Close()
	s.log.Info("herald runs", "version", buildVersion(), "listen", s.publicListener.Addr().String(), "admin_listen", s.adminListener.Addr().String())
	reading, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	parts := newParts()
	if s.jwks != nil {
		parts.run(func() error { s.jwks.Run(reading); return nil })
	}
	if s.revocations != nil {
		parts.run(func() error {
			if err := s.revocations.run(reading, s.streams); err != nil {
				return fmt.Errorf("revocations: %w", err)
			}
			return nil
		})
	}
	parts.run(func() error { return s.consumer.Run(reading) })
	parts.run(s.servePublic)
	parts.run(func() error { return s.admin.Serve(s.adminListener) })
	select {
	case <-ctx.Done():
		s.log.Info("herald stops")
	case <-parts.failed:
	}
	s.draining.Store(true)
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.drain.timeout)
	defer cancel()
	s.streams.Drain(closing, min(s.drain.window, s.drain.timeout/2)) // streams need time to end, too
	err := errors.Join(shutdown(closing, s.public), shutdown(closing, s.admin))
	stop()
	return errors.Join(parts.wait(), err) // the consumer's last commit is not cut off
}

// servePublic serves with TLS where there is a certificate.
func (s *server) servePublic() error {
	if s.public.TLSConfig != nil {
		return s.public.ServeTLS(s.publicListener, "", "")
	}
	return s.public.Serve(s.publicListener)
}

// shutdown waits for the requests under way until ctx ends, then cuts them off.
func shutdown(ctx context.Context, s *http.Server) error {
	if err := s.Shutdown(ctx); err != nil {
		return s.Close()
	}
	return nil
}

// protocols are HTTP/1.1 and HTTP/2, without TLS too (RFC 9113, section 3.3): for proxies that carry
// many streams over one connection.
func protocols() *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetHTTP2(true)
	p.SetUnencryptedHTTP2(true)
	return p
}

func (s *server) adminRoutes(registry *prometheus.Registry) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := s.ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = fmt.Fprintln(w, "ok")
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	return mux
}

// ready returns why the server is of no use yet.
func (s *server) ready() error {
	if s.draining.Load() {
		return errors.New("herald stops")
	}
	if s.jwks != nil {
		if err := s.jwks.Ready(); err != nil {
			return err
		}
	}
	if s.revocations != nil {
		if err := s.revocations.ready(); err != nil {
			return err
		}
	}
	return s.consumer.Ready()
}

// listen listens on the address that the flag names.
func listen(ctx context.Context, flag, address string) (net.Listener, error) {
	l, err := listener.Listen(ctx, address)
	if err != nil {
		return nil, fmt.Errorf("--%s %w", flag, err)
	}
	return l, nil
}

// checkListen returns an error unless the flag's value is HOST:PORT.
func checkListen(flag, address, example string) error {
	if err := listener.CheckAddress(address, example); err != nil {
		return fmt.Errorf("--%s %w", flag, err)
	}
	return nil
}

// limitConnections bounds the public listener's connections, and registers metrics of them.
func limitConnections(l net.Listener, registry prometheus.Registerer) *listener.Limited {
	evicted := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "herald_http_connections_evicted_total", Help: "Connections closed while they waited for a request, to make room for new ones.",
	})
	limited := listener.Limit(l, maxConnections(), evicted.Inc)
	registry.MustRegister(evicted, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "herald_http_connections", Help: "Connections of the public listener that are open.",
	}, func() float64 { return float64(limited.Open()) }))
	return limited
}

// certificateExpiry is a metric, so that an alert comes before users notice.
func certificateExpiry(c *listener.Certificate) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "herald_tls_not_after_timestamp_seconds", Help: "Unix time at which the public listener's certificate ends.",
	}, func() float64 { return float64(c.NotAfter().Unix()) })
}
