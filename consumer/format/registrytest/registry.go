package registrytest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// mediaType is the media type of a registry's answers.
const mediaType = "application/vnd.schemaregistry.v1+json"

// Registry answers the requests of the Confluent Schema Registry's API that read schemas. Its methods may be called
// concurrently. The zero value is a registry without schemas.
type Registry struct {
	mu       sync.Mutex
	schemas  []Schema
	requests []string
	answer   func(http.ResponseWriter, *http.Request) bool
}

// Start starts a registry with [Schemas] and returns it and its URL. The registry stops with the test.
func Start(tb testing.TB) (*Registry, string) {
	tb.Helper()
	registry := &Registry{schemas: Schemas()}
	server := httptest.NewServer(registry)
	tb.Cleanup(server.Close)
	return registry, server.URL
}

// Add adds schemas.
func (g *Registry) Add(schemas ...Schema) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.schemas = append(g.schemas, schemas...)
}

// Remove removes all versions of a schema that have the id, so that requests for it get 404.
func (g *Registry) Remove(id int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.schemas = slices.DeleteFunc(g.schemas, func(s Schema) bool { return s.ID == id })
}

// Answer makes the registry call answer for each request. A request for which it returns true is answered; the
// registry answers the others itself. Nil ends it.
func (g *Registry) Answer(answer func(http.ResponseWriter, *http.Request) bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.answer = answer
}

// Fail makes the registry answer each request with the status, such as 401, 404 or 503. 0 ends it.
func (g *Registry) Fail(status int) {
	if status == 0 {
		g.Answer(nil)
		return
	}
	g.Answer(func(w http.ResponseWriter, _ *http.Request) bool {
		writeError(w, status, status*100, http.StatusText(status))
		return true
	})
}

// Delay makes each answer wait for d, or for the end of its request. 0 ends it.
func (g *Registry) Delay(d time.Duration) {
	g.Answer(func(_ http.ResponseWriter, r *http.Request) bool {
		select {
		case <-time.After(d):
		case <-r.Context().Done():
		}
		return false
	})
}

// RequireUser makes the registry answer 401 to requests without these basic credentials.
func (g *Registry) RequireUser(user, password string) {
	g.Answer(func(w http.ResponseWriter, r *http.Request) bool {
		u, p, ok := r.BasicAuth()
		if ok && u == user && p == password {
			return false
		}
		writeError(w, http.StatusUnauthorized, 40101, "Unauthorized")
		return true
	})
}

// RequireToken makes the registry answer 401 to requests without the bearer token.
func (g *Registry) RequireToken(token string) {
	g.Answer(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Authorization") == "Bearer "+token {
			return false
		}
		writeError(w, http.StatusUnauthorized, 40101, "Unauthorized")
		return true
	})
}

// Requests returns the requests so far, as "GET /schemas/ids/1".
func (g *Registry) Requests() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.requests)
}

// ServeHTTP answers a request.
func (g *Registry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	g.requests = append(g.requests, r.Method+" "+r.URL.Path)
	answer := g.answer
	g.mu.Unlock()
	if answer != nil && answer(w, r) {
		return
	}
	if r.Method != http.MethodGet {
		writeError(w, http.StatusMethodNotAllowed, 405, "HTTP 405 Method Not Allowed")
		return
	}
	path := strings.Split(strings.Trim(r.URL.EscapedPath(), "/"), "/")
	for i, segment := range path { // a subject may have slashes
		path[i], _ = url.PathUnescape(segment)
	}
	g.serve(w, path)
}

// serve answers a request for a path, which is split at its slashes.
func (g *Registry) serve(w http.ResponseWriter, path []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case len(path) == 3 && path[0] == "schemas" && path[1] == "ids":
		g.writeSchemaLocked(w, func(s Schema) bool { return strconv.Itoa(s.ID) == path[2] })
	case len(path) == 3 && path[0] == "schemas" && path[1] == "guids":
		g.writeSchemaLocked(w, func(s Schema) bool { return s.GUID == path[2] })
	case len(path) == 2 && path[0] == "schemas" && path[1] == "types":
		write(w, http.StatusOK, []string{"JSON", "PROTOBUF", "AVRO"})
	case len(path) == 1 && path[0] == "subjects":
		subjects := []string{}
		for _, s := range g.schemas {
			if !slices.Contains(subjects, s.Subject) {
				subjects = append(subjects, s.Subject)
			}
		}
		write(w, http.StatusOK, subjects)
	case len(path) == 4 && path[0] == "subjects" && path[2] == "versions":
		g.writeVersionLocked(w, path[1], path[3])
	default:
		writeError(w, http.StatusNotFound, 404, "HTTP 404 Not Found")
	}
}

// writeSchemaLocked answers with the first schema that is wanted: without its id, subject and version, as
// registries do.
func (g *Registry) writeSchemaLocked(w http.ResponseWriter, wanted func(Schema) bool) {
	i := slices.IndexFunc(g.schemas, wanted)
	if i < 0 {
		writeError(w, http.StatusNotFound, 40403, "Schema not found")
		return
	}
	s := g.schemas[i]
	fields := map[string]any{"schema": s.Text, "guid": s.GUID}
	if s.Type != "AVRO" { // registries omit the type of Avro
		fields["schemaType"] = s.Type
	}
	if len(s.References) > 0 {
		fields["references"] = s.References
	}
	write(w, http.StatusOK, fields)
}

// writeVersionLocked answers with a version of a subject; "latest" is its last one.
func (g *Registry) writeVersionLocked(w http.ResponseWriter, subject, version string) {
	for _, s := range slices.Backward(g.schemas) {
		if s.Subject == subject && (version == "latest" || strconv.Itoa(s.Version) == version) {
			write(w, http.StatusOK, s)
			return
		}
	}
	writeError(w, http.StatusNotFound, 40402, fmt.Sprintf("Version %s not found.", version))
}

func writeError(w http.ResponseWriter, status, code int, text string) {
	write(w, status, map[string]any{"error_code": code, "message": text})
}

func write(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", mediaType)
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value) // the client may have gone
}
