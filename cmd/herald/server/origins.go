package server

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"
)

// preflightAge is how long browsers may keep the answer to a preflight, in seconds.
const preflightAge = 600

// origins are the web origins whose pages may use the server: its own and the listed ones.
type origins struct {
	listed     []string
	protection *http.CrossOriginProtection
}

// newOrigins returns an error for a text that is not an origin (RFC 6454, section 6.2) as browsers write it.
func newOrigins(listed []string) (*origins, error) {
	o := &origins{listed: listed, protection: http.NewCrossOriginProtection()}
	for _, origin := range listed {
		u, err := url.Parse(origin)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.Scheme+"://"+u.Host != origin ||
			origin != strings.ToLower(origin) || strings.ContainsAny(origin, "*?") || u.Port() == defaultPort[u.Scheme] || strings.HasSuffix(origin, ":") {
			return nil, fmt.Errorf("%q: want an origin as browsers write it, such as https://app.example: scheme, host in lower case, a port if it is not the usual one, and nothing else", origin)
		}
		if err := o.protection.AddTrustedOrigin(origin); err != nil {
			return nil, err
		}
	}
	return o, nil
}

var defaultPort = map[string]string{"http": "80", "https": "443"}

// check returns an error for a request that changes something and comes from a page of another origin.
// It looks at the header Sec-Fetch-Site, or at Origin if the browser does not send Sec-Fetch-Site.
func (o *origins) check(r *http.Request) error { return o.protection.Check(r) }

// checkAll is check, also for requests that only read.
func (o *origins) checkAll(r *http.Request) error {
	changing := *r
	changing.Method = http.MethodPost
	return o.protection.Check(&changing)
}

// cors lets pages of the listed origins read the answers (Fetch, "CORS protocol"), also to requests with
// the user's cookie. Without listed origins it does nothing.
func (o *origins) cors() echo.MiddlewareFunc {
	if len(o.listed) == 0 {
		return func(next echo.HandlerFunc) echo.HandlerFunc { return next }
	}
	return middleware.CORSWithConfig(middleware.CORSConfig{
		// A function, because Echo takes the entries of its list for patterns.
		AllowOriginFunc:  func(origin string) (bool, error) { return slices.Contains(o.listed, origin), nil },
		AllowMethods:     []string{http.MethodGet, http.MethodPost, http.MethodDelete},
		AllowHeaders:     []string{"Authorization", "Cache-Control", "Content-Type", "Idempotency-Key", "Last-Event-ID"},
		ExposeHeaders:    []string{"Retry-After"},
		AllowCredentials: true,
		MaxAge:           preflightAge,
	})
}

// refuse refuses requests that check returns an error for: a page of another origin must not change
// anything in the name of the user who opened it.
func (o *origins) refuse(f *frontDoor) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			if err := o.check(c.Request()); err != nil {
				f.recordRefusal(c, reasonOrigin, err)
				return errForeignOrigin
			}
			return next(c)
		}
	}
}

var errForeignOrigin = refuse(http.StatusForbidden, codeForeignOrigin, "a page of another origin may not do this")
