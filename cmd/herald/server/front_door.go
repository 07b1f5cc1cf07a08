package server

import (
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"herald/auth"
	"herald/cmd/herald/visible"
	"herald/consumer"
	"herald/stream"
)

// unavailableRetry is how many seconds a client waits while the keys for tokens are unavailable.
const unavailableRetry = 5

// Reasons of refused requests, the values of a label.
const (
	reasonToken  = "token"
	reasonUser   = "user"
	reasonOrigin = "origin"
	reasonHost   = "host"
	reasonKeys   = "keys"
	reasonQuota  = "quota"
	reasonQuery  = "query"
	reasonProxy  = "proxy-header"
)

// frontDoor finds out who sends a request, and refuses requests in HTTP's terms.
type frontDoor struct {
	auth        auth.Authenticator
	revocations *auth.Revocations // nil: no token is revoked
	origins     *origins
	checkUser   func(user string) error // returns an error for a user that cannot have a stream
	log         *slog.Logger
	*refusals
}

// refusals count refused requests and requests for session cookies. They outlive a reload, which makes a new front door.
type refusals struct {
	refused  *prometheus.CounterVec
	sessions *prometheus.CounterVec
	lines    *rate.Limiter // lines of the log about refused requests
}

func newRefusals() *refusals {
	return &refusals{
		lines: oncePerSecond(),
		refused: counterVec("herald_http_refusals_total", "Requests refused, by reason: token, user, origin, host, keys, quota, query or proxy-header.",
			"reason", reasonToken, reasonUser, reasonOrigin, reasonHost, reasonKeys, reasonQuota, reasonQuery, reasonProxy),
		sessions: counterVec("herald_sessions_total", "Requests to make or remove a session cookie, by result: created, refused or removed.",
			"result", sessionCreated, sessionRefused, sessionRemoved),
	}
}

func newFrontDoor(authenticator auth.Authenticator, revocations *auth.Revocations, o *origins, checkUser func(string) error, log *slog.Logger, refusals *refusals) *frontDoor {
	return &frontDoor{auth: authenticator, revocations: revocations, origins: o, checkUser: checkUser, log: log, refusals: refusals}
}

// oncePerSecond bounds lines of the log that any client can cause.
func oncePerSecond() *rate.Limiter { return rate.NewLimiter(rate.Every(time.Second), 1) }

// recordRefusal counts a refused request and logs its reason, at most once a second: any client can
// cause a refusal. The errors of auth hold no token.
func (f *frontDoor) recordRefusal(c echo.Context, reason string, err error) {
	f.refused.WithLabelValues(reason).Inc()
	if !f.lines.Allow() {
		return
	}
	facts := []any{"method", c.Request().Method, "route", c.Path(), "remote", c.RealIP()}
	if origin := c.Request().Header.Get("Origin"); origin != "" {
		facts = append(facts, "origin", visible.Excerpt(origin))
	}
	f.log.Info("request refused", append(facts, "error", err)...)
}

// recordConnection counts a connection that is refused because of its PROXY header, and logs it, at most once a second.
func (f *frontDoor) recordConnection(peer net.Addr, err error) {
	f.refused.WithLabelValues(reasonProxy).Inc()
	if f.lines.Allow() {
		f.log.Warn("connection refused", "peer", peer.String(), "error", err)
	}
}

// identify returns the identity in the request's token, or a refusal.
func (f *frontDoor) identify(c echo.Context) (auth.Identity, error) {
	id, err := f.auth.Authenticate(c.Request())
	if err != nil {
		return auth.Identity{}, f.refuseIdentity(c, f.origins.explainNoCookie(c.Request(), err))
	}
	return id, nil
}

// refuseIdentity records that the request has no identity, and returns the answer to it.
func (f *frontDoor) refuseIdentity(c echo.Context, err error) error {
	switch {
	case errors.Is(err, auth.ErrUser):
		f.recordRefusal(c, reasonUser, err)
		return refuse(http.StatusBadRequest, codeInvalidUser, err.Error())
	case errors.Is(err, auth.ErrConflict):
		f.recordRefusal(c, reasonToken, err)
		setChallenge(c, auth.Challenge(auth.ChallengeInvalidRequest, err.Error()))
		return refuse(http.StatusBadRequest, codeConflictingTokens, err.Error())
	case errors.Is(err, auth.ErrOrigin):
		f.recordRefusal(c, reasonOrigin, err)
		return errForeignOrigin
	case errors.Is(err, auth.ErrUnavailable):
		f.recordRefusal(c, reasonKeys, err)
		c.Response().Header().Set("Retry-After", strconv.Itoa(unavailableRetry))
		return refuse(http.StatusServiceUnavailable, codeKeysUnavailable, "tokens cannot be checked just now").because(err)
	}
	f.recordRefusal(c, reasonToken, err)
	why := auth.Explain(err)
	setChallenge(c, why.Challenge())
	if e, ok := errors.AsType[*noCookieError](err); ok {
		why.Message = e.message
	}
	answer := refuse(http.StatusUnauthorized, codeInvalidToken, why.Message)
	answer.reason = why.Reason
	return answer
}

// setChallenge sets the header that says how to authenticate (RFC 6750, section 3).
func setChallenge(c echo.Context, challenge string) {
	c.Response().Header().Set("WWW-Authenticate", challenge)
}

// viewer returns who opens a stream and what the viewer may see. While the keys are unavailable it
// returns [stream.ErrUnchecked], which the stream sends in an answer with status 200: any other status
// ends a browser's EventSource for good.
func (f *frontDoor) viewer(c echo.Context) (stream.Viewer, error) {
	id, err := f.auth.Authenticate(c.Request())
	if errors.Is(err, auth.ErrUnavailable) {
		f.recordRefusal(c, reasonKeys, err)
		return stream.Viewer{}, stream.ErrUnchecked
	}
	if err != nil {
		return stream.Viewer{}, f.refuseIdentity(c, f.origins.explainNoCookie(c.Request(), err))
	}
	if _, open := f.auth.(auth.Insecure); open { // the page needs no session: only its origin distinguishes it from a client
		if err := f.origins.checkAll(c.Request()); err != nil {
			f.recordRefusal(c, reasonOrigin, err)
			return stream.Viewer{}, errForeignOrigin
		}
	}
	f.origins.recordHidden(c, f)
	if err := f.checkUser(id.User); err != nil {
		f.recordRefusal(c, reasonUser, err)
		return stream.Viewer{}, refuse(http.StatusForbidden, codeUserNotServed, err.Error())
	}
	where, err := consumer.ParseConditions(id.Where)
	if err != nil { // checkWhere has found none
		return stream.Viewer{}, err
	}
	v := stream.Viewer{User: id.User, Expires: id.Expires, Types: id.Types, Topics: id.Topics, Where: where, Claims: id.Claims, TokenID: id.ID, IssuedAt: id.IssuedAt}
	if f.revocations != nil {
		v.Holds = func() bool { return !f.revocations.IsRevoked(id.User, id.ID, id.IssuedAt) }
	}
	return v, nil
}
