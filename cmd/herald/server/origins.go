package server

import (
	"net/http"
	"net/netip"
	"net/url"
	"slices"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"
)

// preflightAge is how long browsers may keep the answer to a preflight, in seconds.
const preflightAge = 600

// origins are the origins whose pages may use the server: its own and the allowed ones.
type origins struct {
	allowed    []allowedOrigin
	headers    []string                    // request headers that their pages may send, besides requestHeaders
	loopback   bool                        // pages on this machine are allowed too, see Config.AllowLoopbackOrigins
	secure     bool                        // the session cookie is Secure
	setting    string                      // the setting that lists the allowed ones
	protection *http.CrossOriginProtection // lets the server's own pages through
}

// newOrigins returns an error for a text that is not an origin as browsers write it. setting is the name of the
// setting that lists the origins.
func newOrigins(allowed []string, setting string) (*origins, error) {
	o := &origins{setting: setting, protection: http.NewCrossOriginProtection()}
	for _, text := range allowed {
		a, err := parseAllowedOrigin(text)
		if err != nil {
			return nil, err
		}
		o.allowed = append(o.allowed, a)
	}
	return o, nil
}

// allows says whether the origin is one of the allowed ones.
func (o *origins) allows(origin string) bool {
	return o.loopback && isLoopbackOrigin(origin) ||
		slices.ContainsFunc(o.allowed, func(a allowedOrigin) bool { return a.matches(origin) })
}

// isLoopbackOrigin says whether an Origin header names a page that this machine serves, on any port. A page
// on the web cannot: browsers write its own name there, even if the name leads to loopback.
func isLoopbackOrigin(origin string) bool {
	u, err := url.Parse(origin)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Scheme+"://"+u.Host != origin {
		return false
	}
	ip, err := netip.ParseAddr(u.Hostname())
	return u.Hostname() == "localhost" || err == nil && ip.IsLoopback()
}

// check returns an error for a request that changes something and comes from a page of an origin that is neither
// the server's nor allowed. An allowed origin suffices, whatever Sec-Fetch-Site says: the pages of apps
// and extensions are of another site than every server. For other origins, check looks at Sec-Fetch-Site, or
// at Origin if the browser does not send Sec-Fetch-Site.
func (o *origins) check(r *http.Request) error {
	if o.allows(r.Header.Get("Origin")) || o.protection.Check(r) == nil {
		return nil
	}
	return o.errUnlisted(r)
}

// checkAll is check, also for requests that only read.
func (o *origins) checkAll(r *http.Request) error {
	if o.allows(r.Header.Get("Origin")) || o.isOwnPage(r) {
		return nil
	}
	return o.errUnlisted(r)
}

// isOwnPage says whether a page of the server's own origin sent the request, or no page at all.
func (o *origins) isOwnPage(r *http.Request) bool {
	changing := *r
	changing.Method = http.MethodPost
	return o.protection.Check(&changing) == nil
}

// cors lets pages of the allowed origins read the answers (Fetch, "CORS protocol"), also to requests with
// the user's cookie. Without allowed origins it does nothing.
func (o *origins) cors() echo.MiddlewareFunc {
	if len(o.allowed) == 0 && !o.loopback {
		return func(next echo.HandlerFunc) echo.HandlerFunc { return next }
	}
	return middleware.CORSWithConfig(middleware.CORSConfig{
		// A function, because Echo's patterns match several labels.
		AllowOriginFunc:  func(origin string) (bool, error) { return o.allows(origin), nil },
		AllowMethods:     []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodDelete},
		AllowHeaders:     slices.Concat(requestHeaders, o.headers),
		ExposeHeaders:    []string{"Retry-After", "WWW-Authenticate"},
		AllowCredentials: true,
		MaxAge:           preflightAge,
	})
}
