package server

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// adminRoutes returns the handler of the admin listener.
func (s *Server) adminRoutes(registry *prometheus.Registry) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", s.answerReady)
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	if s.cfg.AdminPprof {
		addProfiles(mux)
	}
	mux.Handle("/", refuseAbsent(&s.cfg))
	return onlyOwnHost(mux, s.adminOnLoopback)
}

// refuseAbsent returns a handler that refuses requests for anything that the admin listener does not have.
func refuseAbsent(cfg *Config) http.HandlerFunc {
	e := endpoints{absent: make(map[string]string)}
	for _, path := range adminPaths {
		if path == profilePath && !cfg.AdminPprof {
			e.absent[path] = fmt.Sprintf("this server shows no profiles: they need %s", cfg.name("AdminPprof"))
			continue
		}
		e.list = append(e.list, endpoint{path, []string{http.MethodGet}})
	}
	for _, path := range publicPaths {
		e.absent[path] = fmt.Sprintf("this is the admin listener: %s is on the public one (%s)", cfg.BasePath+path, cfg.name("Listen"))
	}
	return func(w http.ResponseWriter, r *http.Request) {
		path := r.URL.Path
		if isProfilePath(path) {
			path = profilePath
		}
		if slices.ContainsFunc(e.list, func(one endpoint) bool { return one.path == path }) { // the routes take GET and HEAD
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, explainMethod([]string{http.MethodGet}), http.StatusMethodNotAllowed)
			return
		}
		http.Error(w, e.explainPath(r.Method, path), http.StatusNotFound)
	}
}
