package server

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"

	"herald/consumer/spelling"
)

// The paths of the two listeners. The routes of the public one are in publicRoutes.
var (
	adminPaths   = []string{"/livez", "/readyz", "/metrics", streamsPath, profilePath}
	publishPaths = []string{"/broadcast", "/users/{user}/notifications"}
	clientPaths  = []string{"/herald.js", "/herald-connection.js", "/herald-share.js"} // the module for pages
	publicPaths  = slices.Concat([]string{"/", "/events", "/session"}, clientPaths, publishPaths)
)

// getAndHead are the methods of what can be read. HEAD gets the head of the answer to GET (RFC 9110, section 9.3.2).
var getAndHead = []string{http.MethodGet, http.MethodHead}

// endpoint is a path of a listener, with the methods that it takes.
type endpoint struct {
	path    string // with {user} for a user's name
	methods []string
}

func (e endpoint) String() string { return spelling.AnyOf(e.methods) + " " + e.path }

// endpoints are what a listener has, so that a refusal of anything else can name it.
type endpoints struct {
	base   string            // see [Config.BasePath]
	list   []endpoint        // with paths below base
	absent map[string]string // paths that the listener could have, and why it does not
}

// publicEndpoints returns the endpoints of the public listener, from all of its routes. The files of the demo page are
// not among them, because only the page asks for them, and neither is HEAD: each path that takes GET takes HEAD.
func publicEndpoints(routes []*echo.Route, cfg *Config, signIn bool) endpoints {
	e := endpoints{base: cfg.BasePath, absent: make(map[string]string)}
	for _, route := range routes {
		path := strings.ReplaceAll(strings.TrimPrefix(route.Path, cfg.BasePath), ":user", "{user}")
		if path == "" || path == "/" || strings.HasPrefix(path, "/demo/") || route.Method == http.MethodHead {
			continue
		}
		if i := slices.IndexFunc(e.list, func(e endpoint) bool { return e.path == path }); i >= 0 {
			e.list[i].methods = append(e.list[i].methods, route.Method)
			continue
		}
		e.list = append(e.list, endpoint{path, []string{route.Method}})
	}
	slices.SortFunc(e.list, func(a, b endpoint) int { return cmp.Compare(a.path, b.path) })
	for _, one := range e.list {
		slices.SortFunc(one.methods, func(a, b string) int { return methodOrder(a) - methodOrder(b) })
	}
	for _, path := range adminPaths {
		e.absent[path] = fmt.Sprintf("%s is on the admin listener (%s)", path, cfg.name("AdminListen"))
	}
	if !signIn {
		e.absent["/session"] = "there are no sessions, because this server authenticates nobody"
	}
	if !cfg.EnablePublish {
		for _, path := range publishPaths {
			e.absent[path] = fmt.Sprintf("this server takes no notifications by POST: they need %s", cfg.name("EnablePublish"))
		}
	}
	if !cfg.Demo {
		e.absent["/"] = fmt.Sprintf("this server has no page: the stream is at %s/events, and the demo page needs %s", cfg.BasePath, cfg.name("Demo"))
	}
	return e
}

func methodOrder(method string) int {
	return slices.Index([]string{http.MethodGet, http.MethodPost, http.MethodDelete}, method)
}

// explain answers requests for paths and methods that do not exist: it says what exists instead.
func (e *endpoints) explain(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		switch err := next(c); {
		case errors.Is(err, echo.ErrNotFound):
			return refuse(http.StatusNotFound, statusCode(http.StatusNotFound), e.explainPath(c.Request().Method, c.Request().URL.Path))
		case errors.Is(err, echo.ErrMethodNotAllowed):
			allowed := strings.Split(c.Response().Header().Get("Allow"), ", ")
			allowed = slices.DeleteFunc(allowed, func(method string) bool { return method == http.MethodOptions || method == http.MethodHead })
			return refuse(http.StatusMethodNotAllowed, statusCode(http.StatusMethodNotAllowed), explainMethod(allowed))
		default:
			return err
		}
	}
}

// explainMethod returns the message of status 405.
func explainMethod(allowed []string) string {
	return "this path does not take this method: use " + spelling.AnyOf(allowed)
}

// explainPath returns the message of status 404: why the path is absent, the endpoint that was probably meant, or all
// endpoints.
func (e *endpoints) explainPath(method, path string) string {
	paths := make([]string, 0, len(e.list)+len(e.absent))
	for _, one := range e.list {
		paths = append(paths, one.path)
	}
	for absent := range e.absent {
		paths = append(paths, absent)
	}
	slices.Sort(paths[len(e.list):])
	meant := nearestPath(strings.TrimPrefix(path, e.base), paths)
	if why := e.absent[meant]; why != "" {
		return why
	}
	if i := slices.IndexFunc(e.list, func(one endpoint) bool { return one.path == meant }); i >= 0 {
		one := endpoint{e.base + meant, e.list[i].methods}
		if slices.Contains(one.methods, method) {
			one.methods = []string{method}
		}
		return fmt.Sprintf("there is nothing at this path, did you mean %s?", one)
	}
	all := make([]string, 0, len(e.list))
	for _, one := range e.list {
		all = append(all, endpoint{e.base + one.path, one.methods}.String())
	}
	return "there is nothing at this path: this listener has " + strings.Join(all, "; ")
}

// maxSegments bounds the parts of a path that is compared with the endpoints.
const maxSegments = 16

// nearestPath returns the path of the list that the client probably meant, or "". Case, slashes at the end and a
// prefix, which a proxy may have left on the path, do not count.
func nearestPath(path string, list []string) string {
	segments := strings.FieldsFunc(path, func(c rune) bool { return c == '/' })
	if len(segments) > maxSegments {
		return ""
	}
	asked := "/" + strings.ToLower(strings.Join(segments, "/"))
	concrete := make([]string, len(list))
	for i, one := range list {
		parts := strings.Split(one, "/")[1:]
		if from := len(segments) - len(parts); from >= 0 && strings.HasSuffix(asked, withUser(parts, segments[from:])) && one != "/" {
			return one
		}
		concrete[i] = withUser(parts, segments)
	}
	if i := slices.Index(concrete, spelling.Nearest(asked, concrete)); i >= 0 && (list[i] != "/" || asked == "/") {
		return list[i]
	}
	return ""
}

// withUser returns the path of the parts, with the user that the segments have in the place of {user}.
func withUser(parts, segments []string) string {
	parts = slices.Clone(parts)
	for i, part := range parts {
		if part == "{user}" && i < len(segments) {
			parts[i] = segments[i]
		}
	}
	return "/" + strings.ToLower(strings.Join(parts, "/"))
}
