package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"herald/auth"
	"herald/cmd/herald/demo"
	"herald/cmd/herald/listener"
	"herald/consumer"
	"herald/consumer/format"
	"herald/stream"
)

// Server is one Herald: a consumer, the streams that it feeds, and two HTTP servers. [New] makes one.
// [Server.Start] may be called once. The other methods may be called concurrently after it.
type Server struct {
	cfg      Config // its Settings are those of the start, see entrance
	registry *prometheus.Registry

	consumer    *consumer.Consumer
	schemas     *format.Registry // nil: Schemas is nil
	producer    *consumer.Producer
	hub         *stream.Hub
	streams     *stream.Handler
	jwks        *auth.JWKS        // nil: the keys do not change
	revocations *revocations      // nil: RevocationTopic is empty
	revoked     *auth.Revocations // what revocations has read; nil: RevocationTopic is empty
	page        *demo.Demo        // nil: no demo page

	refusals     *refusals
	publications *publications
	reloads      *reloadMetrics
	entrance     atomic.Pointer[entrance]
	reloading    sync.Mutex // held by Reload

	public, admin *http.Server
	adminListener net.Listener
	limited       *listener.Limited // the public listener

	parts    *parts
	cleanups []func() error // run by Stop, the last one first
	draining atomic.Bool
	stopOnce sync.Once
	stopErr  error
}

// ConfigError is an error of the configuration that [New] was given.
type ConfigError struct{ err error }

func (e *ConfigError) Error() string { return e.err.Error() }

func (e *ConfigError) Unwrap() error { return e.err }

// New returns a server that does not run yet. It connects to nothing and starts no goroutine that would
// have to be stopped. A mistake in cfg is a [*ConfigError].
func New(cfg Config) (*Server, error) {
	if err := CheckFileLimit(); err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if err := cfg.Validate(); err != nil {
		return nil, &ConfigError{err}
	}
	cfg.warnOfFileLimit(cfg.Logger)
	s := &Server{
		cfg: cfg, registry: newRegistry(cfg.Version), parts: newParts(),
		refusals: newRefusals(), publications: newPublications(&cfg), reloads: newReloadMetrics(time.Now()),
	}
	s.jwks, _ = cfg.Keys.(*auth.JWKS)
	if cfg.RevocationTopic != "" && !cfg.InsecureNoAuth {
		s.revoked = auth.NewRevocations(auth.DefaultLeeway)
	}
	if err := s.buildKafka(); err != nil {
		return nil, err
	}
	s.streams = stream.NewHandler(stream.Config{
		Hub: s.hub, Kafka: s.consumer, Viewer: viewerOf, Logger: cfg.Logger,
		Heartbeat: cfg.Heartbeat, WriteTimeout: cfg.WriteTimeout, Retry: cfg.Retry, MaxQueue: cfg.MaxQueueBytes,
		Hold:   func(ctx context.Context) func() { return s.limited.Hold(ctx) },
		Limits: cfg.replayLimits(), Admission: cfg.admission(),
	})
	e, err := s.newEntrance(cfg)
	if err != nil {
		return nil, &ConfigError{err}
	}
	s.entrance.Store(e)
	s.registerMetrics()
	var public http.Handler = http.HandlerFunc(s.servePublicRequest)
	if cfg.Middleware != nil {
		public = cfg.Middleware(public)
	}
	s.public = newPublicServer(&cfg, stream.Detach(public, answerTimeout))
	s.admin = newHTTPServer(s.adminRoutes(s.registry), cfg.Logger)
	s.admin.MaxHeaderBytes = maxAdminHeader
	return s, nil
}

// registerMetrics registers the metrics of the parts that do not register them on their own.
func (s *Server) registerMetrics() {
	s.registry.MustRegister(s.refusals.refused, s.refusals.sessions, s.publications.published, s.publications.durations, s.kafkaConnections())
	s.registry.MustRegister(s.kafkaRenewals())
	s.registry.MustRegister(s.reloads.successful, s.reloads.succeeded)
	s.registry.MustRegister(s.conditionMetrics()...)
	if s.jwks != nil {
		s.registry.MustRegister(s.jwks)
	}
	if s.cfg.Certificate != nil {
		s.registry.MustRegister(certificateExpiry(s.cfg.Certificate))
	}
}

// buildKafka builds the parts that talk to Kafka.
func (s *Server) buildKafka() error {
	cfg := s.cfg.Consumer
	cfg.Logger, cfg.Registry = s.cfg.Logger, s.registry
	cfg.ReplayCacheBytes, cfg.ReplayRatePerUser = s.cfg.ReplayCacheBytes, s.cfg.ReplayRatePerUser
	s.hub = stream.NewHub(s.cfg.EventTypeHeader, s.registry, s.cfg.RecordHeader...)
	if s.cfg.Schemas != nil {
		s.schemas = format.NewRegistry(s.cfg.Schemas, s.cfg.Logger, s.registry)
		cfg.Schemas = s.schemas
	}
	var err error
	if s.consumer, err = consumer.New(cfg, s.hub); err != nil {
		return err
	}
	if s.revoked != nil {
		if err := checkRevocationTopic(s.cfg.RevocationTopic, cfg.Routes); err != nil {
			return &ConfigError{fmt.Errorf("%s: %w", s.cfg.name("RevocationTopic"), err)}
		}
		if s.revocations, err = newRevocations(s.revoked, s.cfg.RevocationTopic, cfg, s.cfg.Logger); err != nil {
			return fmt.Errorf("%s: %w", s.cfg.name("RevocationTopic"), err)
		}
	}
	s.producer = consumer.NewProducer(cfg.Brokers, cfg.TLS, cfg.SASL)
	return nil
}

// Start listens and starts everything; it does not wait until the server is ready, see [Server.Ready].
// The server runs until Stop: the end of ctx only ends Start. If Start fails, it has stopped everything.
func (s *Server) Start(ctx context.Context) error {
	s.onStop(func() error { s.producer.Close(); return nil })
	if s.schemas != nil {
		s.onStop(func() error { s.schemas.Close(); return nil })
	}
	if err := s.startTracing(ctx); err != nil {
		return errors.Join(err, s.Stop())
	}
	if err := s.listen(ctx); err != nil {
		return errors.Join(err, s.Stop())
	}
	s.cfg.Logger.Info("server started", "version", s.cfg.Version, "listen", listener.Name(s.Addr()), "admin_listen", listener.Name(s.AdminAddr()),
		"replica", s.cfg.Consumer.Replica, "group", s.cfg.Consumer.Groups()[0])
	s.warnOfAdminListener()
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.onStop(func() error { stop(); return s.parts.wait() }) // the consumer commits its last offsets meanwhile
	if s.page != nil {
		s.onStop(func() error { s.page.Close(); return nil })
	}
	s.onStop(s.drainRequests)
	if s.jwks != nil {
		s.parts.run(func() error { s.jwks.Run(running); return nil })
	}
	if s.revocations != nil {
		s.parts.run(func() error {
			if err := s.revocations.run(running, s.streams); err != nil {
				return fmt.Errorf("revocations: %w", err)
			}
			return nil
		})
	}
	s.parts.run(func() error { return s.consumer.Run(running) })
	s.parts.run(s.servePublic)
	s.parts.run(func() error { return s.admin.Serve(s.adminListener) })
	return nil
}

// Addr returns the address of the public listener, with the port that it got.
func (s *Server) Addr() net.Addr { return s.limited.Addr() }

// AdminAddr returns the address of the admin listener, with the port that it got.
func (s *Server) AdminAddr() net.Addr { return s.adminListener.Addr() }

// Failed returns a channel that is closed when a part of the server has ended with an error. The server
// is then of no use, and [Server.Stop] returns the error.
func (s *Server) Failed() <-chan struct{} { return s.parts.failed }

// AwaitLocks takes and releases the locks that every stream needs, one after the other. It returns when all of them have
// been free, so a server in which it does not return serves nobody.
func (s *Server) AwaitLocks() {
	s.streams.AwaitLocks()
	_, _ = s.registry.Gather() // takes the consumer's locks; what it counts does not matter here
}

// Stop ends the streams with a reason, so that their clients reconnect elsewhere, lets requests end, and
// stops everything else. It takes DrainTimeout, plus a few seconds for the demo's tasks and for Kafka.
// It returns the errors of all parts. Later calls wait for the first one and return the same error.
func (s *Server) Stop() error {
	s.stopOnce.Do(func() {
		var errs []error
		for _, cleanup := range slices.Backward(s.cleanups) {
			errs = append(errs, cleanup())
		}
		s.stopErr = errors.Join(errs...)
	})
	return s.stopErr
}

// onStop has Stop call cleanup before the clean-ups that were given earlier.
func (s *Server) onStop(cleanup func() error) { s.cleanups = append(s.cleanups, cleanup) }

// drainRequests ends streams and requests within DrainTimeout. Streams get half of it at most to spread
// their end, because they also need time to write what waits for them.
func (s *Server) drainRequests() error {
	s.draining.Store(true)
	cfg := &s.entrance.Load().cfg
	ctx, cancel := context.WithTimeout(context.Background(), cfg.DrainTimeout)
	defer cancel()
	s.streams.Drain(ctx, min(cfg.DrainWindow, cfg.DrainTimeout/2))
	return errors.Join(shutdown(ctx, s.public), shutdown(ctx, s.admin))
}
