package server

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"herald/auth"
)

// maxCookie bounds name and value of a cookie, in bytes, as browsers do (RFC 6265bis, section 5.6).
const maxCookie = 4096

// sessionCookie makes cookies in which browsers carry a token. The cookie holds the token itself, so
// the server checks its signature and expiry like any other token's. Replicas then need neither a list
// of sessions nor a shared key to seal cookies with. No script can read the cookie (HttpOnly), and
// browsers send it to this host only (__Host-).
type sessionCookie struct {
	sameSite http.SameSite
	insecure bool   // browsers send it over plain HTTP too
	basePath string // see [Config.BasePath]
}

// name returns the cookie's name. Its prefix makes browsers require Secure, Path=/ and no Domain, so
// that no other host of the site can set the cookie (RFC 6265bis, section 4.1.3.2). So the Path cannot be the base
// path. The base path is in the name instead: two servers of one host do not overwrite each other's cookie.
func (s sessionCookie) name() string {
	name := "herald" + strings.ReplaceAll(s.basePath, "/", ".")
	if s.insecure {
		return name
	}
	return "__Host-" + name
}

func (s sessionCookie) holding(token string, life time.Duration) *http.Cookie {
	return &http.Cookie{ //nolint:gosec // insecure only if a flag says so, and then only on loopback
		Name: s.name(), Value: token, Path: "/", MaxAge: max(1, int(life.Seconds())),
		HttpOnly: true, Secure: !s.insecure, SameSite: s.sameSite,
	}
}

func (s sessionCookie) removed() *http.Cookie {
	c := s.holding("", 0) //nolint:gosec // as above
	c.MaxAge = -1
	return c
}

// Results of requests for a session cookie, the values of a label.
const (
	sessionCreated = "created"
	sessionRefused = "refused"
	sessionRemoved = "removed"
)

// sessions exchanges a token for a cookie.
type sessions struct {
	cookie  sessionCookie
	jwt     *auth.JWT
	front   *frontDoor
	publish bool // the server has routes to publish by
}

// session is the answer that describes a session.
type session struct {
	User    string    `json:"user"`
	Expires time.Time `json:"expires"`
	Publish bool      `json:"publish"`
}

func (s *sessions) register(g *echo.Group, query queryRules) {
	g.POST("/session", s.create, query.only(false))
	g.Match(getAndHead, "/session", s.show, query.only(true))
	g.DELETE("/session", s.remove, query.only(false))
}

// create answers with a cookie that holds the token of the Authorization header. It ignores the
// request's cookie: a new token takes precedence over an old one.
func (s *sessions) create(c echo.Context) error {
	id, err := s.setCookie(c)
	if err != nil {
		s.front.sessions.WithLabelValues(sessionRefused).Inc()
		return err
	}
	s.front.sessions.WithLabelValues(sessionCreated).Inc()
	return s.answer(c, id)
}

// setCookie sets the cookie of a request with a valid token, and returns the identity in the token.
func (s *sessions) setCookie(c echo.Context) (auth.Identity, error) {
	token, err := auth.Sources{}.Token(c.Request())
	if err != nil {
		return auth.Identity{}, s.front.refuseIdentity(c, err)
	}
	id, err := s.jwt.Verify(c.Request().Context(), token)
	if err != nil {
		return auth.Identity{}, s.front.refuseIdentity(c, err)
	}
	if len(s.cookie.name())+len(token) > maxCookie {
		return auth.Identity{}, refuse(http.StatusRequestEntityTooLarge, codeTooLarge, fmt.Sprintf("the token is too long for a cookie: it may have %d bytes", maxCookie-len(s.cookie.name())))
	}
	c.SetCookie(s.cookie.holding(token, time.Until(id.Expires)))
	return id, nil
}

// show answers whose session the request has. A page asks to find out whether a user is signed in, so
// the answer without a session is 204: a 401 would show as an error on the page's console.
func (s *sessions) show(c echo.Context) error {
	id, err := s.front.auth.Authenticate(c.Request())
	switch {
	case err == nil:
		return s.answer(c, id)
	case errors.Is(err, auth.ErrNoToken), errors.Is(err, auth.ErrExpired), errors.Is(err, auth.ErrInvalidToken), errors.Is(err, auth.ErrNotYetValid), errors.Is(err, auth.ErrRevoked):
		noStore(c)
		return c.NoContent(http.StatusNoContent)
	}
	return s.front.refuseIdentity(c, err)
}

func (s *sessions) remove(c echo.Context) error {
	c.SetCookie(s.cookie.removed())
	s.front.sessions.WithLabelValues(sessionRemoved).Inc()
	noStore(c)
	return c.NoContent(http.StatusNoContent)
}

func (s *sessions) answer(c echo.Context, id auth.Identity) error {
	noStore(c)
	return c.JSON(http.StatusOK, session{id.User, id.Expires.UTC(), id.Publish && s.publish})
}

func noStore(c echo.Context) { c.Response().Header().Set("Cache-Control", "no-store") }
