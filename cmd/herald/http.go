package main

import (
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"

	"herald/auth"
	"herald/consumer"
	"herald/stream"
)

// unavailableRetry is what a client waits for keys, in seconds.
const unavailableRetry = 5

// frontDoor says who a request comes from, in HTTP's terms.
type frontDoor struct {
	revocations *auth.Revocations // nil: there are none
	auth        auth.Authenticator
	consumer    *consumer.Consumer
	refused     *prometheus.CounterVec
	log         *slog.Logger
	refusals    gate
}

// refuse counts and logs why a request has no identity: at most one line a second, as anybody can
// have them written. The errors of auth do not hold a token.
func (f *frontDoor) refuse(c echo.Context, reason string, err error) {
	f.refused.WithLabelValues(reason).Inc()
	if f.refusals.pass() {
		f.log.Info("request refused", "method", c.Request().Method, "route", c.Path(), "remote", c.RealIP(), "error", err)
	}
}

func (f *frontDoor) identify(c echo.Context) (auth.Identity, error) {
	id, err := f.auth.Authenticate(c.Request())
	if err != nil {
		return auth.Identity{}, f.refusal(c, err)
	}
	return id, nil
}

// refusal is the answer to a request that has no identity for this reason.
func (f *frontDoor) refusal(c echo.Context, err error) error {
	switch {
	case errors.Is(err, auth.ErrUser):
		f.refuse(c, "user", err)
		return echo.NewHTTPError(http.StatusBadRequest, err.Error())
	case errors.Is(err, auth.ErrConflict):
		f.refuse(c, "token", err)
		return echo.NewHTTPError(http.StatusBadRequest, err.Error())
	case errors.Is(err, auth.ErrOrigin):
		f.refuse(c, "origin", err)
		return errForeignOrigin
	case errors.Is(err, auth.ErrUnavailable):
		f.refuse(c, "keys", err)
		c.Response().Header().Set("Retry-After", strconv.Itoa(unavailableRetry))
		return echo.NewHTTPError(http.StatusServiceUnavailable, "tokens cannot be checked just now").SetInternal(err)
	}
	f.refuse(c, "token", err)
	c.Response().Header().Set("WWW-Authenticate", auth.Challenge(err))
	return echo.NewHTTPError(http.StatusUnauthorized, "a valid token is needed")
}

func (f *frontDoor) viewer(c echo.Context) (stream.Viewer, error) {
	id, err := f.auth.Authenticate(c.Request())
	if errors.Is(err, auth.ErrUnavailable) { // any status but 200 would end an EventSource for ever
		f.refuse(c, "keys", err)
		return stream.Viewer{}, stream.ErrUnchecked
	}
	if err != nil {
		return stream.Viewer{}, f.refusal(c, err)
	}
	if err := f.consumer.CheckUser(id.User); err != nil {
		f.refuse(c, "user", err)
		return stream.Viewer{}, echo.NewHTTPError(http.StatusForbidden, err.Error())
	}
	v := stream.Viewer{User: id.User, Expires: id.Expires, Types: id.Types, Topics: id.Topics, TokenID: id.ID, IssuedAt: id.IssuedAt}
	if f.revocations != nil {
		v.Holds = func() bool { return !f.revocations.IsRevoked(id.User, id.ID, id.IssuedAt) }
	}
	return v, nil
}

// dropUnread gives up the rest of a body that the handler has not read: net/http waits for it, as long
// as a request may take, and its connection would count as one with a request.
func dropUnread(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		err := next(c)
		if r := c.Request(); r.ContentLength != 0 && r.ProtoMajor == 1 {
			_ = http.NewResponseController(c.Response().Writer).SetReadDeadline(time.Now().Add(unreadTimeout))
		}
		return err
	}
}

// errorAsJSON gives every error the same shape. What is our fault or Kafka's is logged; the client
// gets fixed text.
func errorAsJSON(log *slog.Logger) echo.HTTPErrorHandler {
	return func(err error, c echo.Context) {
		status, message := http.StatusInternalServerError, "internal error"
		if e, ok := errors.AsType[*echo.HTTPError](err); ok {
			status = e.Code
			message = http.StatusText(status)
			if text, ok := e.Message.(string); ok {
				message = text
			}
		}
		if status >= http.StatusInternalServerError && status != http.StatusServiceUnavailable { // that Kafka is away is logged once
			log.Error("request failed", "method", c.Request().Method, "route", c.Path(), "status", status, "error", err)
		}
		if c.Response().Committed {
			return
		}
		_ = c.JSON(status, map[string]any{"error": map[string]string{"code": http.StatusText(status), "message": message}})
	}
}
