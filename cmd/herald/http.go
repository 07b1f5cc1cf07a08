package main

import (
	"context"
	"errors"
	"io"
	"net/http"

	"github.com/labstack/echo/v4"

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
}

func (f *frontDoor) identify(c echo.Context) (auth.Identity, error) {
	id, err := f.auth.Authenticate(c.Request())
	switch {
	case err == nil:
		return id, nil
	case errors.Is(err, auth.ErrUser):
		return id, echo.NewHTTPError(http.StatusBadRequest, err.Error())
	default:
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
		return stream.Viewer{}, echo.NewHTTPError(http.StatusForbidden, err.Error())
	}
	return stream.Viewer{User: id.User, Expires: id.Expires}, nil
}

// errorAsJSON gives every error the same shape.
func errorAsJSON(err error, c echo.Context) {
	if c.Response().Committed {
		return
	}
	status, message := http.StatusInternalServerError, "internal error"
	if e, ok := errors.AsType[*echo.HTTPError](err); ok {
		status = e.Code
		message = http.StatusText(status)
		if text, ok := e.Message.(string); ok {
			message = text
		}
	}
	_ = c.JSON(status, map[string]any{"error": map[string]string{"code": http.StatusText(status), "message": message}})
}

// publisher writes notifications to the first route that fits.
type publisher struct {
	producer *consumer.Producer
	routes   []consumer.Route
	front    *frontDoor
}

func (p *publisher) toUser(c echo.Context) error { return p.publish(c, c.Param("user")) }
func (p *publisher) toAll(c echo.Context) error  { return p.publish(c, "") }

func (p *publisher) publish(c echo.Context, user string) error {
	if _, insecure := p.front.auth.(auth.Insecure); !insecure {
		id, err := p.front.identify(c)
		if err != nil {
			return err
		}
		if !id.Publish {
			return echo.NewHTTPError(http.StatusForbidden, "the token lacks the permission to publish")
		}
	}
	value, err := io.ReadAll(http.MaxBytesReader(c.Response(), c.Request().Body, maxValue))
	if err != nil {
		return echo.NewHTTPError(http.StatusRequestEntityTooLarge, "a value has at most 1 MiB")
	}
	eventType := c.QueryParam("type")
	if eventType != "" && !stream.ValidType(eventType) {
		return echo.NewHTTPError(http.StatusBadRequest, "this event type is reserved or has line breaks")
	}
	pos, err := p.write(c.Request().Context(), user, eventType, c.Request().Header.Get("Content-Type"), value)
	if errors.Is(err, errNoRoute) {
		return echo.NewHTTPError(http.StatusNotFound, err.Error())
	}
	if err != nil {
		return echo.NewHTTPError(http.StatusBadGateway, "kafka did not take the record")
	}
	return c.JSON(http.StatusCreated, map[string]any{"topic": pos.Topic, "partition": pos.ID, "offset": pos.Offset})
}

var errNoRoute = errors.New("no topic takes this notification")

func (p *publisher) write(ctx context.Context, user, eventType, contentType string, value []byte) (consumer.Position, error) {
	m, ok := consumer.MessageFor(p.routes, user)
	if !ok {
		return consumer.Position{}, errNoRoute
	}
	m.Value = value
	if eventType != "" {
		m.Headers = append(m.Headers, consumer.Header{Key: eventTypeHeader, Value: []byte(eventType)})
	}
	if contentType != "" {
		m.Headers = append(m.Headers, consumer.Header{Key: "content-type", Value: []byte(contentType)})
	}
	return p.producer.Produce(ctx, m)
}

// demoProducer is the publisher as the demo page's worker needs it.
type demoProducer struct{ *publisher }

func (p demoProducer) Produce(ctx context.Context, m demo.Message) error {
	_, err := p.write(ctx, m.User, m.Type, "application/json", m.Value)
	return err
}
