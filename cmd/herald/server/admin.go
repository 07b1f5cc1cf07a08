package server

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// adminRoutes returns the handler of the admin listener.
func (s *Server) adminRoutes(registry *prometheus.Registry) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", s.answerReady)
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET "+streamsPath, s.listStreams)
	mux.HandleFunc("DELETE "+streamsPath, s.endStreams)
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
		methods := []string{http.MethodGet}
		if path == streamsPath {
			methods = append(methods, http.MethodDelete)
		}
		e.list = append(e.list, endpoint{path, methods})
	}
	for _, path := range publicPaths {
		e.absent[path] = fmt.Sprintf("this is the admin listener: %s is on the public one (%s)", cfg.BasePath+path, cfg.name("Listen"))
	}
	return func(w http.ResponseWriter, r *http.Request) {
		path := r.URL.Path
		if isProfilePath(path) {
			path = profilePath
		}
		if i := slices.IndexFunc(e.list, func(one endpoint) bool { return one.path == path }); i >= 0 { // each route takes HEAD, too
			methods := e.list[i].methods
			w.Header().Set("Allow", strings.Join(slices.Insert(slices.Clone(methods), 1, http.MethodHead), ", "))
			http.Error(w, explainMethod(methods), http.StatusMethodNotAllowed)
			return
		}
		http.Error(w, e.explainPath(r.Method, path), http.StatusNotFound)
	}
}
