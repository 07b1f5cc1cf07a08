package server

import (
	"fmt"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"

	"herald/auth"
	"herald/stream"
)

// entrance is the public side of a server under one set of [Settings]. A request is served by one entrance from its
// beginning to its end, so a reload changes nothing in the middle of it.
type entrance struct {
	cfg     Config
	handler http.Handler
	front   *frontDoor
	clients *clientAddresses
}

// newEntrance builds the entrance for cfg, whose fields but Settings are the server's. Everything that must outlive a
// reload, such as counters and quotas, is in the Server.
func (s *Server) newEntrance(cfg Config) (*entrance, error) {
	o, err := newOrigins(cfg.AllowOrigin, cfg.name("AllowOrigin"))
	if err != nil {
		return nil, err
	}
	o.headers, o.loopback, o.secure = cfg.AllowHeader, cfg.AllowLoopbackOrigins, !cfg.InsecureSessionCookie
	a, err := newAccess(&cfg, o, s.revoked)
	if err != nil {
		return nil, err
	}
	e := &entrance{cfg: cfg, front: newFrontDoor(a.auth, s.revoked, o, s.consumer.CheckUser, cfg.Logger, s.refusals)}
	pub := newPublisher(&cfg, s.producer, s.consumer, s.hub, e.front, s.publications)
	if e.clients, err = newClientAddresses(&cfg); err != nil {
		return nil, err
	}
	e.handler = s.publicRoutes(&cfg, a, o, e.front, pub, e.clients)
	return e, nil
}

// servePublicRequest serves a request of the public listener by the current entrance.
func (s *Server) servePublicRequest(w http.ResponseWriter, r *http.Request) {
	s.entrance.Load().handler.ServeHTTP(w, r)
}

// frontDoorKey is the key of a request's [frontDoor] in its [echo.Context].
const frontDoorKey = "herald.front-door"

// enter notes the front door of a request for [viewerOf].
func (f *frontDoor) enter(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		c.Set(frontDoorKey, f)
		return next(c)
	}
}

// viewerOf is the viewer of the front door that the request has entered by.
func viewerOf(c echo.Context) (stream.Viewer, error) {
	f, ok := c.Get(frontDoorKey).(*frontDoor)
	if !ok {
		return stream.Viewer{}, fmt.Errorf("no %s in the context", frontDoorKey)
	}
	return f.viewer(c)
}

// Reload changes the settings while the server runs. Requests that begin later meet all of the new settings. Open streams
// stay open until their token expires, even if its key is not among the new keys. After an error, which is a
// [*ConfigError], the settings are those from before. A key set cannot be exchanged: Keys must be the [auth.JWKS] that
// the server has, or no JWKS if it has none. Reload may be called at any time, also concurrently.
func (s *Server) Reload(settings Settings) error {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	cfg := s.cfg
	cfg.Settings = settings
	if err := cfg.Validate(); err != nil {
		return &ConfigError{err}
	}
	if keySet, _ := cfg.Keys.(*auth.JWKS); keySet != s.jwks {
		return &ConfigError{fmt.Errorf("%s: another key set needs a restart", cfg.name("Keys"))}
	}
	e, err := s.newEntrance(cfg)
	if err != nil {
		return &ConfigError{err}
	}
	cfg.warnOfFileLimit(cfg.Logger)
	if s.jwks != nil {
		s.jwks.AllowAlgorithms(cfg.JWTAlgorithms)
	}
	s.consumer.SetReplayRatePerUser(cfg.ReplayRatePerUser)
	s.publications.change(&cfg)
	s.streams.Change(stream.Settings{Retry: cfg.Retry, Limits: cfg.replayLimits(), Admission: cfg.admission(), MaxQueue: cfg.MaxQueueBytes})
	s.entrance.Store(e)
	return nil
}

func (c *Config) replayLimits() stream.Limits {
	return stream.Limits{Age: c.ReplayMaxAge, Records: c.ReplayMaxRecords}
}

// RecordReload sets the metrics of the last reload. err is why nothing was changed, by [Server.Reload] or by the caller's
// own checks; nil: the new settings are in force.
func (s *Server) RecordReload(err error) { s.reloads.record(err, time.Now()) }

// reloadMetrics have the names that Prometheus uses for its own configuration.
type reloadMetrics struct {
	successful, succeeded prometheus.Gauge
}

func newReloadMetrics(start time.Time) *reloadMetrics {
	m := &reloadMetrics{
		successful: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "herald_config_last_reload_successful", Help: "1 if the last reload of the settings, or the start, was successful; 0 if a reload changed nothing because of an error.",
		}),
		succeeded: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "herald_config_last_reload_success_timestamp_seconds", Help: "Unix time of the last successful reload of the settings, or of the start.",
		}),
	}
	m.record(nil, start)
	return m
}

func (m *reloadMetrics) record(err error, now time.Time) {
	if err != nil {
		m.successful.Set(0)
		return
	}
	m.successful.Set(1)
	m.succeeded.Set(float64(now.UnixMilli()) / 1000)
}
