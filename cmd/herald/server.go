package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"herald/auth"
	"herald/consumer"
	"herald/stream"
)

const eventTypeHeader = "event-type"

// listeners are where a server listens; both commands have them.
type listeners struct {
	Listen      string `default:"127.0.0.1:8080" help:"Address of the public listener."`
	AdminListen string `default:"127.0.0.1:8081" help:"Address of the admin listener: /livez, /readyz, /metrics."`
}

// server is one Herald: a consumer, the streams fed by it, and two HTTP servers.
type server struct {
	consumer *consumer.Consumer
	streams  *stream.Handler
	public   *http.Server
	admin    *http.Server
	listen   [2]net.Listener
}

type settings struct {
	listeners
	Brokers        []string
	Group, Replica string
	Routes         []consumer.Route
	Auth           auth.Authenticator
	Publish        bool
	Extend         func(*echo.Echo, *publisher) // more public routes
}

func newServer(ctx context.Context, s settings) (*server, error) {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	registry := prometheus.NewRegistry()
	hub := stream.NewHub(eventTypeHeader)
	c, err := consumer.New(consumer.Config{
		Brokers: s.Brokers, Group: s.Group, Replica: s.Replica, Routes: s.Routes, Logger: log, Registry: registry,
	}, hub)
	if err != nil {
		return nil, err
	}
	front := &frontDoor{auth: s.Auth, consumer: c}
	srv := &server{consumer: c, streams: stream.NewHandler(stream.Config{Hub: hub, Log: c, Viewer: front.viewer, Logger: log})}

	e := echo.New()
	e.HTTPErrorHandler = errorAsJSON
	e.GET("/events", srv.streams.Events)
	pub := &publisher{producer: consumer.NewProducer(s.Brokers, nil, nil), routes: s.Routes, front: front}
	if s.Publish {
		e.POST("/users/:user/notifications", pub.toUser)
		e.POST("/broadcast", pub.toAll)
	}
	if s.Extend != nil {
		s.Extend(e, pub)
	}
	// A page of another origin must not publish in the name of whoever opened it.
	srv.public = &http.Server{Handler: http.NewCrossOriginProtection().Handler(e), ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: 64 << 10}
	srv.admin = &http.Server{Handler: admin(c, registry), ReadHeaderTimeout: 10 * time.Second}
	for i, address := range []string{s.Listen, s.AdminListen} {
		if srv.listen[i], err = new(net.ListenConfig).Listen(ctx, "tcp", address); err != nil {
			return nil, fmt.Errorf("%w: choose another with --listen or --admin-listen", err)
		}
	}
	return srv, nil
}

// run serves until ctx ends, then lets go of the streams.
func (s *server) run(ctx context.Context) error {
	reading, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	errs := make(chan error, 3)
	go func() { errs <- s.consumer.Run(reading) }()
	go func() { errs <- s.public.Serve(s.listen[0]) }()
	go func() { errs <- s.admin.Serve(s.listen[1]) }()
	var err error
	ended := 0
	select {
	case <-ctx.Done():
	case err = <-errs:
		ended++
	}
	s.streams.Drain()
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	err = errors.Join(err, s.public.Shutdown(closing), s.admin.Shutdown(closing))
	stop()
	for ; ended < 3; ended++ {
		if e := <-errs; !errors.Is(e, http.ErrServerClosed) {
			err = errors.Join(err, e)
		}
	}
	return err
}

func admin(c *consumer.Consumer, registry *prometheus.Registry) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := c.Ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	return mux
}
