package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kerr"
	"golang.org/x/sync/semaphore"

	"herald/auth"
	"herald/cmd/herald/demo"
	"herald/consumer"
	"herald/stream"
)

// maxContentType bounds a Content-Type, in bytes.
const maxContentType = 255

// publishFlags bound what is published.
type publishFlags struct {
	EnablePublish   bool    `help:"Serve POST /users/{user}/notifications and POST /broadcast, for tokens that may publish." group:"Publishing"`
	PublishMaxBytes int64   `default:"1048576" placeholder:"BYTES" help:"Longest notification; Kafka has a limit of its own, by default a little more. Default: ${default}." group:"Publishing"`
	PublishRate     float64 `default:"100" placeholder:"NUMBER" help:"Notifications a second that one user, or without authentication one address, may publish on this replica; 0: no limit. Default: ${default}." group:"Publishing"`
	PublishBurst    int     `default:"200" placeholder:"NUMBER" help:"Notifications that one user may publish at once. Default: ${default}." group:"Publishing"`
}

func (p *publishFlags) check() error {
	switch {
	case p.PublishMaxBytes < 1 || p.PublishMaxBytes > 64<<20:
		return fmt.Errorf("--publish-max-bytes=%d: want 1 to %d", p.PublishMaxBytes, 64<<20)
	case !(p.PublishRate >= 0 && p.PublishRate <= 1e6): // so that NaN is none
		return fmt.Errorf("--publish-rate=%v: want 0 to 1000000", p.PublishRate)
	case p.PublishBurst < 1 || p.PublishBurst > 1e6:
		return fmt.Errorf("--publish-burst=%d: want 1 to 1000000", p.PublishBurst)
	}
	return nil
}

// publisher writes notifications to the first route that fits.
type publisher struct {
	producer   *consumer.Producer
	routes     []consumer.Route
	typeHeader string
	front      *frontDoor
	hub        *stream.Hub
	published  *prometheus.CounterVec
	maxValue   int64 // bytes
	quota      *quota
	repeats    *repeats
	bodies     *semaphore.Weighted // bytes of bodies in memory
}

// newBodies bounds the bodies that are in memory, from when they are asked for until Kafka has them:
// a client may take its time to send one.
func newBodies(maxValue int64) *semaphore.Weighted {
	return semaphore.NewWeighted(max(maxBodies, maxValue))
}

const (
	maxBodies = 64 << 20 // bytes; one body at least has room
	fullRetry = 1        // seconds that a client waits for room
)

// notification is what is to be published.
type notification struct {
	everyone    bool
	user        string // whom it is for, unless it is for everyone
	eventType   string
	contentType string
	key         string // Idempotency-Key; empty: none
	value       []byte
	room        int64 // bytes of publisher.bodies
}

// fingerprint tells a notification from others with the same key.
func (n *notification) fingerprint() [32]byte {
	h := sha256.New()
	for _, part := range [][]byte{[]byte(strconv.FormatBool(n.everyone)), []byte(n.user), []byte(n.eventType), []byte(n.contentType), n.value} {
		_, _ = fmt.Fprintf(h, "%d:", len(part))
		_, _ = h.Write(part)
	}
	return [32]byte(h.Sum(nil))
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
	by, err := p.read(c, &n)
	defer func() { p.bodies.Release(n.room) }()
	if err != nil {
		p.published.WithLabelValues("refused").Inc()
		return err
	}
	if n.key == "" {
		answer, err := p.publishOnce(c, n)
		if err != nil {
			return err
		}
		return c.JSON(http.StatusCreated, answer)
	}
	first, err := p.repeats.begin(repeatKey{by.User, n.key}, n.fingerprint(), time.Now())
	if err != nil {
		if errors.Is(err, errRepeatsFull) {
			c.Response().Header().Set("Retry-After", strconv.Itoa(fullRetry))
		}
		p.published.WithLabelValues("refused").Inc()
		return err
	}
	if first.done {
		p.published.WithLabelValues("repeated").Inc()
		return c.JSON(http.StatusCreated, first.answer)
	}
	var answer published
	err = errors.New("panic") // unless it is set
	defer func() { p.repeats.end(first, answer, err == nil) }()
	if answer, err = p.publishOnce(c, n); err != nil {
		return err
	}
	return c.JSON(http.StatusCreated, answer)
}

// publishOnce writes the notification.
func (p *publisher) publishOnce(c echo.Context, n notification) (published, error) {
	if !p.front.consumer.Online() {
		p.published.WithLabelValues("error").Inc()
		return published{}, kafkaAway(c)
	}
	ctx := c.Request().Context()
	if n.key != "" { // a client that goes away will ask again: then there is to be an answer
		ctx = context.WithoutCancel(ctx)
	}
	written, err := p.write(ctx, n)
	if err != nil {
		return published{}, p.failed(c, err)
	}
	p.published.WithLabelValues("ok").Inc()
	answer := published{Topic: written.Topic, Partition: written.ID, Offset: written.Offset}
	if p.front.consumer.Ready() == nil { // else positions are not known yet
		answer.EventID, _ = p.hub.IDAfter(p.front.consumer.UserTopics(n.user), n.user, written)
	}
	return answer, nil
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

// read completes the notification from a request that may publish it, and returns whose it is.
func (p *publisher) read(c echo.Context, n *notification) (auth.Identity, error) {
	by, err := p.permit(c)
	if err != nil {
		return by, err
	}
	if !n.everyone {
		if err := p.checkUser(n.user); err != nil {
			return by, err
		}
	}
	n.eventType, n.contentType = c.QueryParam("type"), c.Request().Header.Get("Content-Type")
	if n.eventType != "" && !stream.ValidType(n.eventType) {
		return by, echo.NewHTTPError(http.StatusBadRequest, "this event type is reserved, too long or has line breaks")
	}
	if _, _, err := mime.ParseMediaType(n.contentType); n.contentType != "" && err != nil || len(n.contentType) > maxContentType {
		return by, echo.NewHTTPError(http.StatusUnsupportedMediaType, fmt.Sprintf("Content-Type: want one such as application/json, of up to %d bytes, or none", maxContentType))
	}
	if n.key, err = idempotencyKey(c.Request().Header); err != nil {
		return by, err
	}
	return by, p.readBody(c, n)
}

// readBody reads the value, where there is room for it.
func (p *publisher) readBody(c echo.Context, n *notification) error {
	body := c.Request().Body
	size := c.Request().ContentLength
	if size < 0 {
		size = p.maxValue // not told
	}
	tooLarge := echo.NewHTTPError(http.StatusRequestEntityTooLarge, fmt.Sprintf("a notification has at most %d bytes", p.maxValue))
	if size > p.maxValue {
		return tooLarge
	}
	if !p.bodies.TryAcquire(size) {
		c.Response().Header().Set("Retry-After", strconv.Itoa(fullRetry))
		return echo.NewHTTPError(http.StatusServiceUnavailable, "too much is being published at once: nothing was written")
	}
	n.room = size
	var err error
	n.value, err = io.ReadAll(http.MaxBytesReader(c.Response(), body, p.maxValue))
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return tooLarge
	}
	if err != nil {
		return echo.NewHTTPError(http.StatusBadRequest, "the body cannot be read").SetInternal(err)
	}
	return nil
}

// permit says whether the caller may publish now.
func (p *publisher) permit(c echo.Context) (auth.Identity, error) {
	id, err := p.caller(c)
	if err != nil {
		return id, err
	}
	if !id.Publish {
		return id, echo.NewHTTPError(http.StatusForbidden, "the token does not allow publishing")
	}
	if wait := p.quota.take(id.User, time.Now()); wait > 0 {
		p.front.refused.WithLabelValues("quota").Inc()
		c.Response().Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
		return id, echo.NewHTTPError(http.StatusTooManyRequests, "more notifications than one user may publish at a time")
	}
	return id, nil
}

// caller is who publishes. Without authentication everybody may, and is known by the address.
func (p *publisher) caller(c echo.Context) (auth.Identity, error) {
	if _, insecure := p.front.auth.(auth.Insecure); insecure {
		return auth.Identity{User: c.RealIP(), Publish: true}, nil
	}
	return p.front.identify(c)
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
	if n.key != "" {
		m.Headers = append(m.Headers, consumer.Header{Key: "idempotency-key", Value: []byte(n.key)})
	}
	return p.producer.Produce(ctx, m)
}

// permitTask returns what says who starts a task of the demo page: who may publish. Nil where nobody
// is authenticated.
func (p *publisher) permitTask(j *auth.JWT) func(echo.Context) (string, error) {
	if j == nil {
		return nil
	}
	return func(c echo.Context) (string, error) {
		id, err := p.permit(c)
		return id.User, err
	}
}

// demoProducer is the publisher as the demo page's worker needs it.
type demoProducer struct{ *publisher }

func (p demoProducer) Produce(ctx context.Context, m demo.Message) error {
	_, err := p.write(ctx, notification{user: m.User, eventType: m.Type, contentType: "application/json", value: m.Value})
	return err
}
