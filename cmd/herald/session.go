package main

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"herald/auth"
)

// maxCookie bounds name and value of a cookie, in bytes, as browsers do (RFC 6265bis, section 5.6).
const maxCookie = 4096

// sessionCookie is how browsers carry a token. The cookie holds the token itself: its signature and
// its expiry are checked as those of any other, no replica keeps a list of sessions, and none needs a
// key to seal it, which all would have to share. No script can read it (HttpOnly), and it goes to this
// host only (__Host-).
type sessionCookie struct {
	sameSite http.SameSite
	insecure bool // goes over plain HTTP too
}

// name has a prefix that makes browsers insist on Secure, Path=/ and no Domain, so that no other host
// of the site can set it (RFC 6265bis, section 4.1.3.2).
func (s sessionCookie) name() string {
	if s.insecure {
		return "herald"
	}
	return "__Host-herald"
}

func (s sessionCookie) with(token string, life time.Duration) *http.Cookie {
	return &http.Cookie{ //nolint:gosec // insecure only where a flag on loopback says so
		Name: s.name(), Value: token, Path: "/", MaxAge: max(1, int(life.Seconds())),
		HttpOnly: true, Secure: !s.insecure, SameSite: s.sameSite,
	}
}

func (s sessionCookie) removed() *http.Cookie {
	c := s.with("", 0) //nolint:gosec // as above
	c.MaxAge = -1
	return c
}

// sessions give browsers a cookie for a token.
type sessions struct {
	cookie  sessionCookie
	jwt     *auth.JWT
	front   *frontDoor
	publish bool // there is something to publish to
}

// session is whose it is.
type session struct {
	User    string    `json:"user"`
	Expires time.Time `json:"expires"`
	Publish bool      `json:"publish"`
}

func (s *sessions) register(e *echo.Echo) {
	e.POST("/session", s.create)
	e.GET("/session", s.show)
	e.DELETE("/session", s.remove)
}

// create takes the token of the Authorization header, whatever cookie there is: a fresh token goes
// before the one of yesterday.
func (s *sessions) create(c echo.Context) error {
	token, err := auth.Sources{}.Token(c.Request())
	if err != nil {
		return s.front.refusal(c, err)
	}
	id, err := s.jwt.Verify(c.Request().Context(), token)
	if err != nil {
		return s.front.refusal(c, err)
	}
	if len(s.cookie.name())+len(token) > maxCookie {
		return echo.NewHTTPError(http.StatusRequestEntityTooLarge, fmt.Sprintf("the token is too long for a cookie: it may have %d bytes", maxCookie-len(s.cookie.name())))
	}
	c.SetCookie(s.cookie.with(token, time.Until(id.Expires)))
	return s.answer(c, id)
}

// show tells whose session it is, with 204 if it is nobody's: a page asks to find out, and a 401 would
// be an error on its console.
func (s *sessions) show(c echo.Context) error {
	id, err := s.front.auth.Authenticate(c.Request())
	switch {
	case err == nil:
		return s.answer(c, id)
	case errors.Is(err, auth.ErrNoToken), errors.Is(err, auth.ErrExpired), errors.Is(err, auth.ErrInvalidToken), errors.Is(err, auth.ErrNotYetValid), errors.Is(err, auth.ErrRevoked):
		noStore(c)
		return c.NoContent(http.StatusNoContent)
	}
	return s.front.refusal(c, err)
}

func (s *sessions) remove(c echo.Context) error {
	c.SetCookie(s.cookie.removed())
	noStore(c)
	return c.NoContent(http.StatusNoContent)
}

func (s *sessions) answer(c echo.Context, id auth.Identity) error {
	noStore(c)
	return c.JSON(http.StatusOK, session{id.User, id.Expires.UTC(), id.Publish && s.publish})
}

func noStore(c echo.Context) { c.Response().Header().Set("Cache-Control", "no-store") }
