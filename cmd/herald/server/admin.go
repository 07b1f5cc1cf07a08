package server

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"herald/cmd/herald/listener"
)

// adminRoutes returns the handler of the admin listener.
func (s *Server) adminRoutes(registry *prometheus.Registry) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := s.Ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = fmt.Fprintln(w, "ok")
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	if listener.LoopbackOnly(s.cfg.AdminListen) {
		return onlyOwnHost(mux)
	}
	return mux
}

// Ready returns nil if streams would get all of their records, or the first reason why not: the server
// stops, the key set is not loaded yet, the topic of revocations is not read, or Kafka does not answer.
func (s *Server) Ready() error {
	if s.draining.Load() {
		return errors.New("herald is stopping")
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
