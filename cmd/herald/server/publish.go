package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kerr"

	"herald/consumer"
	"herald/consumer/userrate"
	"herald/stream"
)

const (
	maxBodies  = 64 << 20 // bytes of bodies in memory; one body always has room
	fullRetry  = 1        // seconds that a client waits for room
	kafkaRetry = 5        // seconds that a client waits for Kafka
)

// Results of a publish request, the values of a label.
const (
	resultOK       = "ok"
	resultRepeated = "repeated"
	resultRefused  = "refused"
	resultError    = "error"
)

// publisher writes notifications to the first route that fits.
type publisher struct {
	producer   *consumer.Producer
	consumer   *consumer.Consumer
	routes     []consumer.Route
	typeHeader string
	front      *frontDoor
	hub        *stream.Hub
	maxValue   int64 // bytes
	*publications
}

// publications are what the server remembers of publishing across reloads.
type publications struct {
	published *prometheus.CounterVec
	durations prometheus.Histogram
	quota     *userrate.Limiter // of notifications
	repeats   *repeats
	bodies    *bodyRoom
}

func newPublications(cfg *Config) *publications {
	return &publications{
		published: newPublishedCounter(), durations: newPublishDurations(), quota: userrate.New(cfg.PublishRate, cfg.PublishBurst), repeats: newRepeats(),
		bodies: newBodyRoom(maxBodies, cfg.PublishMaxBytes),
	}
}

// change makes the new limits count, also for users who have used a part of theirs.
func (p *publications) change(cfg *Config) {
	p.quota.SetRate(cfg.PublishRate, cfg.PublishBurst)
	p.bodies.setLargest(cfg.PublishMaxBytes)
}

func newPublisher(cfg *Config, producer *consumer.Producer, c *consumer.Consumer, hub *stream.Hub, front *frontDoor, shared *publications) *publisher {
	return &publisher{
		producer: producer, consumer: c, routes: cfg.Consumer.Routes, typeHeader: cfg.EventTypeHeader, front: front, hub: hub,
		maxValue: cfg.PublishMaxBytes, publications: shared,
	}
}

func newPublishedCounter() *prometheus.CounterVec {
	return counterVec("herald_http_published_total", "Notifications taken by POST, by result: ok, repeated, refused or error.",
		"result", resultOK, resultRepeated, resultRefused, resultError)
}

func newPublishDurations() prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "herald_http_publish_duration_seconds", Help: "Time from the end of a POST's body until Kafka had acknowledged the record.",
		Buckets: []float64{.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10},
	})
}

// published is the answer to a notification that Kafka has confirmed.
type published struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
	EventID   string `json:"event_id,omitempty"` // a stream that resumes from it continues after the record
}

func (p *publisher) publishToUser(c echo.Context) error {
	return p.publish(c, notification{user: pathUser(c)})
}

func (p *publisher) publishToAll(c echo.Context) error {
	return p.publish(c, notification{everyone: true})
}

// pathUser returns the user in the path. If the client escaped the path differently than Go would, URL.RawPath
// is set: Echo then routes on RawPath and leaves the parameter escaped.
func pathUser(c echo.Context) string {
	user := c.Param("user")
	if c.Request().URL.RawPath == "" {
		return user
	}
	if text, err := url.PathUnescape(user); err == nil { // net/http has refused paths that cannot be unescaped
		return text
	}
	return user
}

// publish writes the notification that the request completes. A notification that repeats an
// Idempotency-Key is not written; it gets the first one's answer.
func (p *publisher) publish(c echo.Context, n notification) error {
	by, err := p.readNotification(c, &n)
	defer func() { p.bodies.giveBack(by.User, n.room) }()
	if err != nil {
		p.published.WithLabelValues(resultRefused).Inc()
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
		p.published.WithLabelValues(resultRefused).Inc()
		return err
	}
	if first.done {
		p.published.WithLabelValues(resultRepeated).Inc()
		return c.JSON(http.StatusCreated, first.answer)
	}
	var answer published
	err = errors.New("panic") // what remains if publishOnce panics
	defer func() { p.repeats.end(first, answer, err == nil) }()
	if answer, err = p.publishOnce(c, n); err != nil {
		return err
	}
	return c.JSON(http.StatusCreated, answer)
}

// publishOnce writes the notification and returns the answer.
func (p *publisher) publishOnce(c echo.Context, n notification) (published, error) {
	if !p.consumer.Online() {
		p.published.WithLabelValues(resultError).Inc()
		return published{}, refuseUnsent(c, noKafka)
	}
	ctx := c.Request().Context()
	if n.key != "" { // a client that leaves will ask again; then there must be an answer
		ctx = context.WithoutCancel(ctx)
	}
	begun := time.Now()
	written, err := p.write(ctx, n)
	if err != nil {
		return published{}, p.recordFailure(c, err)
	}
	p.durations.Observe(time.Since(begun).Seconds())
	p.published.WithLabelValues(resultOK).Inc()
	answer := published{Topic: written.Topic, Partition: written.ID, Offset: written.Offset}
	if p.consumer.Started() == nil { // before that, the positions of an id are not known
		answer.EventID, _ = p.hub.IDAfter(p.consumer.UserTopics(n.user), n.user, written)
	}
	return answer, nil
}

// recordFailure counts a notification that Kafka did not confirm, and returns the answer to it.
func (p *publisher) recordFailure(c echo.Context, err error) error {
	result, answer := resultRefused, error(nil)
	dial, isNet := errors.AsType[*net.OpError](err)
	switch {
	case errors.Is(err, errNoPlainRoute):
		answer = refuse(http.StatusNotFound, codeNoTopic, err.Error())
	case errors.Is(err, errNoRoute), errors.Is(err, consumer.ErrNoTopic):
		answer = refuse(http.StatusNotFound, codeNoTopic, errNoRoute.Error()).because(err)
	case errors.Is(err, kerr.MessageTooLarge), errors.Is(err, kerr.RecordListTooLarge):
		answer = refuse(http.StatusRequestEntityTooLarge, codeTooLarge, "the topic takes no record of this size").because(err)
	case errors.Is(err, kerr.LeaderNotAvailable), isNet && dial.Op == "dial" && p.consumer.Online():
		result, answer = resultError, refuseUnsent(c, noLeader)
	case isNet && dial.Op == "dial": // without a connection nothing was sent
		result, answer = resultError, refuseUnsent(c, noKafka)
	default:
		result, answer = resultError, refuse(http.StatusBadGateway, codeUnconfirmed, "kafka did not confirm the record: it may or may not have been written").because(err)
	}
	p.published.WithLabelValues(result).Inc()
	return answer
}

// Why nothing was sent to Kafka.
const (
	noKafka  = "kafka does not answer"
	noLeader = "kafka answers, but not the broker that leads the record's partition"
)

// refuseUnsent returns the answer to a notification of which nothing was sent to Kafka.
func refuseUnsent(c echo.Context, why string) error {
	c.Response().Header().Set("Retry-After", strconv.Itoa(kafkaRetry))
	return refuse(http.StatusServiceUnavailable, codeKafkaUnavailable, why+": nothing was written")
}

var (
	errNoRoute      = errors.New("no topic takes this notification")
	errNoPlainRoute = fmt.Errorf("%w: Herald writes no values with the id of a schema, as topics with format=registry and format=confluent-json have them", errNoRoute)
)

// write writes the notification to Kafka and waits until Kafka has confirmed it.
func (p *publisher) write(ctx context.Context, n notification) (consumer.Written, error) {
	var headers []consumer.Header
	for _, h := range []struct{ key, value string }{
		{p.typeHeader, n.eventType}, {"content-type", n.contentType}, {"idempotency-key", n.key},
	} {
		if h.value != "" {
			headers = append(headers, consumer.Header{Key: h.key, Value: []byte(h.value)})
		}
	}
	m, ok := consumer.MessageFor(p.routes, n.user, append(headers, n.trace...)...)
	if !ok || n.everyone != (n.user == "") {
		if slices.ContainsFunc(p.routes, func(r consumer.Route) bool { return r.FramesValues() }) {
			return consumer.Written{}, errNoPlainRoute
		}
		return consumer.Written{}, errNoRoute
	}
	m.Value = n.value
	return p.producer.Produce(ctx, m)
}
