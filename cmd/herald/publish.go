package main

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kerr"

	"herald/auth"
	"herald/cmd/herald/demo"
	"herald/consumer"
	"herald/stream"
)

// maxValue bounds a published value, in bytes; Kafka's default limit for a batch is a little more.
const maxValue = 1 << 20

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
	everyone    bool
	user        string // whom it is for, unless it is for everyone
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

func (p *publisher) toUser(c echo.Context) error {
	return p.publish(c, notification{user: pathUser(c)})
}

func (p *publisher) toAll(c echo.Context) error { return p.publish(c, notification{everyone: true}) }

// pathUser returns the user in the path. Echo routes on the path as it was sent if that differs from
// what Go would send, and leaves the parameter escaped then.
func pathUser(c echo.Context) string {
	user := c.Param("user")
	if c.Request().URL.RawPath == "" {
		return user
	}
	if text, err := url.PathUnescape(user); err == nil { // net/http has refused what cannot be unescaped
		return text
	}
	return user
}

func (p *publisher) publish(c echo.Context, n notification) error {
	if err := p.read(c, &n); err != nil {
		p.published.WithLabelValues("refused").Inc()
		return err
	}
	if !p.front.consumer.Online() {
		p.published.WithLabelValues("error").Inc()
		return kafkaAway(c)
	}
	written, err := p.write(c.Request().Context(), n)
	if err != nil {
		return p.failed(c, err)
	}
	p.published.WithLabelValues("ok").Inc()
	answer := published{Topic: written.Topic, Partition: written.ID, Offset: written.Offset}
	if p.front.consumer.Ready() == nil { // else positions are not known yet
		answer.EventID, _ = p.hub.IDAfter(p.front.consumer.Sources(n.user), n.user, written)
	}
	return c.JSON(http.StatusCreated, answer)
}

// failed answers to a notification that was not confirmed.
func (p *publisher) failed(c echo.Context, err error) error {
	result, answer := "refused", error(nil)
	dial, isNet := errors.AsType[*net.OpError](err)
	switch {
	case errors.Is(err, errNoRoute), errors.Is(err, consumer.ErrNoTopic):
		answer = echo.NewHTTPError(http.StatusNotFound, errNoRoute.Error()).SetInternal(err)
	case errors.Is(err, kerr.MessageTooLarge), errors.Is(err, kerr.RecordListTooLarge):
		answer = echo.NewHTTPError(http.StatusRequestEntityTooLarge, "the topic takes no record of this size").SetInternal(err)
	case isNet && dial.Op == "dial": // so nothing was sent
		result, answer = "error", kafkaAway(c)
	default:
		result, answer = "error", echo.NewHTTPError(http.StatusBadGateway, "kafka did not confirm the record: it may or may not have been written").SetInternal(err)
	}
	p.published.WithLabelValues(result).Inc()
	return answer
}

// kafkaAway is the answer where nothing was sent.
func kafkaAway(c echo.Context) error {
	c.Response().Header().Set("Retry-After", "5")
	return echo.NewHTTPError(http.StatusServiceUnavailable, "kafka does not answer: nothing was written")
}

// read completes the notification from a request that may publish it.
func (p *publisher) read(c echo.Context, n *notification) error {
	if err := p.permit(c); err != nil {
		return err
	}
	if !n.everyone {
		if err := p.checkUser(n.user); err != nil {
			return err
		}
	}
	n.eventType, n.contentType = c.QueryParam("type"), c.Request().Header.Get("Content-Type")
	if n.eventType != "" && !stream.ValidType(n.eventType) {
		return echo.NewHTTPError(http.StatusBadRequest, "this event type is reserved, too long or has line breaks")
	}
	var err error
	n.value, err = io.ReadAll(http.MaxBytesReader(c.Response(), c.Request().Body, maxValue))
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		return echo.NewHTTPError(http.StatusRequestEntityTooLarge, "a value has at most 1 MiB")
	}
	if err != nil {
		return echo.NewHTTPError(http.StatusBadRequest, "the body cannot be read").SetInternal(err)
	}
	return nil
}

// permit says whether the caller may publish.
func (p *publisher) permit(c echo.Context) error {
	if _, insecure := p.front.auth.(auth.Insecure); insecure {
		return nil
	}
	id, err := p.front.identify(c)
	if err == nil && !id.Publish {
		err = echo.NewHTTPError(http.StatusForbidden, "the token lacks the permission to publish")
	}
	return err
}

// checkUser refuses whom no stream could show the notification to.
func (p *publisher) checkUser(user string) error {
	err := auth.CheckUser(user)
	if err == nil {
		err = p.front.consumer.CheckUser(user)
	}
	if err != nil {
		return echo.NewHTTPError(http.StatusBadRequest, err.Error())
	}
	return nil
}

var errNoRoute = errors.New("no topic takes this notification")

func (p *publisher) write(ctx context.Context, n notification) (consumer.Written, error) {
	m, ok := consumer.MessageFor(p.routes, n.user)
	if !ok || n.everyone != (n.user == "") {
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
	_, err := p.write(ctx, notification{user: m.User, eventType: m.Type, contentType: "application/json", value: m.Value})
	return err
}
