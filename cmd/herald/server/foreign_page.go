package server

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"

	"herald/auth"
	"herald/cmd/herald/visible"
)

// errForeignOrigin answers a page of an origin that is neither the server's nor allowed. The page cannot read it; the
// page's author finds it in the browser's tools.
var errForeignOrigin = refuse(http.StatusForbidden, codeForeignOrigin, "a page of another origin may not do this unless --allow-origin lists the page's origin")

// errUnlisted is for the log, which has the page's origin in a key of its own.
func (o *origins) errUnlisted(r *http.Request) error {
	if r.Header.Get("Origin") == "" {
		return fmt.Errorf("a page of another site caused the request, and the browser did not send the page's origin, which %s would have to list", o.setting)
	}
	return fmt.Errorf("%s does not list the page's origin", o.setting)
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

// refusePreflight refuses preflights (Fetch, "CORS-preflight request") of pages that may not use the server. The
// browser then does not send the request, so this line of the log is the only one about it.
func (o *origins) refusePreflight(f *frontDoor) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			r := c.Request()
			if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
				if err := o.checkAll(r); err != nil {
					f.recordRefusal(c, reasonOrigin, err)
					return errForeignOrigin
				}
			}
			return next(c)
		}
	}
}

// recordHidden logs that a page opens a stream that it may not read. Herald does not refuse the request, because the
// page has a token of its own. But the browser keeps the answer from the page, and only says so on
// its console.
func (o *origins) recordHidden(c echo.Context, f *frontDoor) {
	origin := c.Request().Header.Get("Origin")
	if err := o.checkAll(c.Request()); err != nil && origin != "" && c.Request().Method == http.MethodGet && f.lines.Allow() {
		f.log.Info("stream opened, but the browser keeps it from the page", "origin", visible.Excerpt(origin), "remote", c.RealIP(), "error", err)
	}
}

// noCookieError is an [auth.ErrNoToken] of a page of another origin, which expects the browser to send the session
// cookie. It says why the browser has not.
type noCookieError struct{ message string }

func (e *noCookieError) Error() string { return auth.ErrNoToken.Error() + ": " + e.message }

func (e *noCookieError) Unwrap() error { return auth.ErrNoToken }

// What a page of another origin needs before browsers send the cookie, see stream/PROTOCOL.md, "Other origins".
const (
	needsCredentials = `it needs session: true in herald.js, withCredentials: true in EventSource, credentials: "include" in fetch (POST /session, too)`
	needsSite        = "browsers send it to no other site, and localhost and 127.0.0.1 are two sites: use one host name, or a token"
	needsTLS         = "over plain HTTP browsers throw it away, except on localhost and 127.0.0.1: use HTTPS, or a token"
)

// explainNoCookie returns err or, if it is an [auth.ErrNoToken] of a page of another origin, a [noCookieError].
// Sec-Fetch-Site says whether the page's site is the server's; browsers send it to HTTPS and to loopback only.
func (o *origins) explainNoCookie(r *http.Request, err error) error {
	if !errors.Is(err, auth.ErrNoToken) || errors.Is(err, auth.ErrNotBearer) || o.isOwnPage(r) {
		return err
	}
	var needs []string
	site := r.Header.Get("Sec-Fetch-Site")
	if origin := r.Header.Get("Origin"); o.secure && site == "" && strings.HasPrefix(origin, "http://") && !isLoopbackOrigin(origin) {
		needs = append(needs, needsTLS)
	}
	if !o.allows(r.Header.Get("Origin")) {
		needs = append(needs, o.setting+" must list the page's origin")
	}
	if site != "cross-site" {
		needs = append(needs, needsCredentials)
	}
	if site != "same-site" {
		needs = append(needs, needsSite)
	}
	return &noCookieError{"the page, of another origin, sent no token (herald.js: the option token; fetch: the header Authorization), " +
		"and the browser sent no session cookie: " + strings.Join(needs, "; ")}
}
