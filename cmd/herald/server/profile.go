package server

import (
	"net/http"
	"net/http/pprof"
	"strings"
)

// profilePath is the path of the profiles of net/http/pprof, and the beginning of the paths of each.
const profilePath = "/debug/pprof"

// isProfilePath says whether the path is one of net/http/pprof.
func isProfilePath(path string) bool {
	return path == profilePath || strings.HasPrefix(path, profilePath+"/")
}

// addProfiles adds the profiles of the Go runtime to the routes of the admin listener. A profile may take longer than
// the server's time-outs: package pprof moves the deadline for writing, and net/http has no deadline for reading while
// a handler runs. Importing package pprof also adds its routes to http.DefaultServeMux, which nothing serves.
func addProfiles(mux *http.ServeMux) {
	for path, handler := range map[string]http.HandlerFunc{
		"GET /debug/pprof/":        pprof.Index, // it also serves the profiles that have no line here, such as heap and goroutine
		"GET /debug/pprof/cmdline": pprof.Cmdline,
		"GET /debug/pprof/profile": pprof.Profile,
		"GET /debug/pprof/symbol":  pprof.Symbol,
		"POST /debug/pprof/symbol": pprof.Symbol,
		"GET /debug/pprof/trace":   pprof.Trace,
	} {
		mux.HandleFunc(path, handler)
	}
}
