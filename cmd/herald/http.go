package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"

	"herald/auth"
	"herald/cmd/herald/demo"
	"herald/consumer"
	"herald/stream"
)

// maxValue bounds a published value, in bytes; Kafka's default limit for a batch is a little more.
const maxValue = 1 << 20

// frontDoor says who a request comes from, in HTTP's terms.
type frontDoor struct {
	auth     auth.Authenticator
	consumer *consumer.Consumer
	refused  *prometheus.CounterVec
}

func (f *frontDoor) identify(c echo.Context) (auth.Identity, error) {
	id, err := f.auth.Authenticate(c.Request())
	switch {
	case err == nil:
		return id, nil
	case errors.Is(err, auth.ErrUser):
		f.refused.WithLabelValues("user").Inc()
		return id, echo.NewHTTPError(http.StatusBadRequest, err.Error())
	default:
		f.refused.WithLabelValues("token").Inc()
		c.Response().Header().Set("WWW-Authenticate", auth.Challenge(err))
		return id, echo.NewHTTPError(http.StatusUnauthorized, "a valid bearer token is needed")
	}
}

func (f *frontDoor) viewer(c echo.Context) (stream.Viewer, error) {
	id, err := f.identify(c)
	if err != nil {
		return stream.Viewer{}, err
	}
	if err := f.consumer.CheckUser(id.User); err != nil {
		f.refused.WithLabelValues("user").Inc()
		return stream.Viewer{}, echo.NewHTTPError(http.StatusForbidden, err.Error())
	}
	return stream.Viewer{User: id.User, Expires: id.Expires}, nil
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
		if status >= http.StatusInternalServerError {
			log.Error("request failed", "method", c.Request().Method, "route", c.Path(), "status", status, "error", err)
		}
		if c.Response().Committed {
			return
		}
		_ = c.JSON(status, map[string]any{"error": map[string]string{"code": http.StatusText(status), "message": message}})
	}
}

// publisher writes notifications to the first route that fits.
type publisher struct {
	producer   *consumer.Producer
	routes     []consumer.Route
	typeHeader string
	front      *frontDoor
	hub        *stream.Hub
	published  *prometheus.CounterVec
}

// notification is what is to be published.
type notification struct {
	user        string // empty: everyone
	eventType   string
	contentType string
	value       []byte
}

// published is the answer to a notification that Kafka has.
type published struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
	EventID   string `json:"event_id,omitempty"` // a stream that resumes from it goes on behind the record
}

func (p *publisher) toUser(c echo.Context) error { return p.publish(c, c.Param("user")) }
func (p *publisher) toAll(c echo.Context) error  { return p.publish(c, "") }

func (p *publisher) publish(c echo.Context, user string) error {
	n, err := p.read(c, user)
	if err != nil {
		p.published.WithLabelValues("refused").Inc()
		return err
	}
	written, err := p.write(c.Request().Context(), n)
	if errors.Is(err, errNoRoute) {
		p.published.WithLabelValues("refused").Inc()
		return echo.NewHTTPError(http.StatusNotFound, err.Error())
	}
	if err != nil {
		p.published.WithLabelValues("error").Inc()
		return echo.NewHTTPError(http.StatusBadGateway, "kafka did not take the record").SetInternal(err)
	}
	p.published.WithLabelValues("ok").Inc()
	answer := published{Topic: written.Topic, Partition: written.ID, Offset: written.Offset}
	if p.front.consumer.Ready() == nil { // else positions are not known yet
		answer.EventID, _ = p.hub.IDAfter(p.front.consumer.Topics(user), written)
	}
	return c.JSON(http.StatusCreated, answer)
}

// read takes the notification from a request that may publish it.
func (p *publisher) read(c echo.Context, user string) (notification, error) {
	n := notification{user: user, eventType: c.QueryParam("type"), contentType: c.Request().Header.Get("Content-Type")}
	if _, insecure := p.front.auth.(auth.Insecure); !insecure {
		id, err := p.front.identify(c)
		if err != nil {
			return n, err
		}
		if !id.Publish {
			return n, echo.NewHTTPError(http.StatusForbidden, "the token lacks the permission to publish")
		}
	}
	if n.eventType != "" && !stream.ValidType(n.eventType) {
		return n, echo.NewHTTPError(http.StatusBadRequest, "this event type is reserved, too long or has line breaks")
	}
	var err error
	n.value, err = io.ReadAll(http.MaxBytesReader(c.Response(), c.Request().Body, maxValue))
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		return n, echo.NewHTTPError(http.StatusRequestEntityTooLarge, "a value has at most 1 MiB")
	}
	if err != nil {
		return n, echo.NewHTTPError(http.StatusBadRequest, "the body cannot be read").SetInternal(err)
	}
	return n, nil
}

var errNoRoute = errors.New("no topic takes this notification")

func (p *publisher) write(ctx context.Context, n notification) (consumer.Written, error) {
	m, ok := consumer.MessageFor(p.routes, n.user)
	if !ok {
		return consumer.Written{}, errNoRoute
	}
	m.Value = n.value
	if n.eventType != "" {
		m.Headers = append(m.Headers, consumer.Header{Key: p.typeHeader, Value: []byte(n.eventType)})
	}
	if n.contentType != "" {
		m.Headers = append(m.Headers, consumer.Header{Key: "content-type", Value: []byte(n.contentType)})
	}
	return p.producer.Produce(ctx, m)
}

// demoProducer is the publisher as the demo page's worker needs it.
type demoProducer struct{ *publisher }

func (p demoProducer) Produce(ctx context.Context, m demo.Message) error {
	_, err := p.write(ctx, notification{m.User, m.Type, "application/json", m.Value})
	return err
}
