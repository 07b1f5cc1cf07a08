package server

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"

	"herald/auth"
	"herald/consumer"
	"herald/stream"
)

const mayNotPublish = "the token does not allow publishing: only its issuer can allow that (claim herald, member publish)"

// notification is a record to be published.
type notification struct {
	everyone    bool
	user        string // empty if it is for everyone
	eventType   string
	contentType string
	key         string            // Idempotency-Key; empty: none
	trace       []consumer.Header // see [traceHeaders]; not a part of the fingerprint: a repeated request has a span of its own
	value       []byte
	room        int64 // bytes of publisher.bodies that it holds
}

// fingerprint distinguishes a notification from others with the same key.
func (n *notification) fingerprint() [32]byte {
	h := sha256.New()
	for _, part := range [][]byte{[]byte(strconv.FormatBool(n.everyone)), []byte(n.user), []byte(n.eventType), []byte(n.contentType), n.value} {
		_, _ = fmt.Fprintf(h, "%d:", len(part))
		_, _ = h.Write(part)
	}
	return [32]byte(h.Sum(nil))
}

// readNotification completes the notification from a request that may publish it, and returns who sent
// the request. The caller releases n.room, also after an error.
func (p *publisher) readNotification(c echo.Context, n *notification) (auth.Identity, error) {
	by, err := p.permit(c)
	if err != nil {
		return by, err
	}
	if !n.everyone {
		if err := p.checkUser(n.user); err != nil {
			return by, err
		}
	}
	query, err := stream.QueryOf(c)
	if err != nil {
		return by, refuse(http.StatusBadRequest, codeBadRequest, err.Error())
	}
	n.eventType, n.contentType = query.Get(paramType), c.Request().Header.Get("Content-Type")
	if n.eventType != "" {
		if err := stream.CheckType(n.eventType); err != nil {
			return by, refuse(http.StatusBadRequest, codeBadRequest, err.Error())
		}
	}
	if err := checkContent(c); err != nil {
		return by, err
	}
	n.trace = traceHeaders(c.Request().Header)
	if n.key, err = idempotencyKey(c.Request().Header); err != nil {
		return by, err
	}
	return by, p.readBody(c, by.User, n)
}

// readBody reads the value if there is room for it, for this sender too. A body whose length the request does not give takes
// the room of the longest one.
func (p *publisher) readBody(c echo.Context, sender string, n *notification) error {
	size := c.Request().ContentLength
	if size < 0 {
		size = p.maxValue
	}
	tooLarge := refuse(http.StatusRequestEntityTooLarge, codeTooLarge, fmt.Sprintf("a notification has at most %d bytes", p.maxValue))
	if size > p.maxValue {
		return tooLarge
	}
	if !p.bodies.take(sender, size) {
		c.Response().Header().Set("Retry-After", strconv.Itoa(fullRetry))
		return refuse(http.StatusServiceUnavailable, codeBusy, "too much is being published at once: nothing was written")
	}
	n.room = size
	var err error
	n.value, err = io.ReadAll(http.MaxBytesReader(c.Response(), c.Request().Body, p.maxValue))
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return tooLarge
	}
	if err != nil {
		return refuse(http.StatusBadRequest, codeBadRequest, "the body cannot be read").because(err)
	}
	return checkText(n.value)
}

// permit returns who sent the request, or a refusal if the sender may not publish now.
func (p *publisher) permit(c echo.Context) (auth.Identity, error) {
	id, err := p.caller(c)
	if err != nil {
		return id, err
	}
	if !id.Publish {
		setChallenge(c, auth.Challenge(auth.ChallengeScope, mayNotPublish))
		return id, refuse(http.StatusForbidden, codeMayNotPublish, mayNotPublish)
	}
	if wait := p.quota.Take(id.User, time.Now()); wait > 0 {
		p.front.refused.WithLabelValues(reasonQuota).Inc()
		c.Response().Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
		return id, refuse(http.StatusTooManyRequests, codeQuota, "more notifications than one user may publish at a time")
	}
	return id, nil
}

// caller returns who sent the request. Without authentication every client may publish, and its address
// stands for the user.
func (p *publisher) caller(c echo.Context) (auth.Identity, error) {
	if _, insecure := p.front.auth.(auth.Insecure); insecure {
		return auth.Identity{User: stream.ClientNetwork(c).String(), Publish: true}, nil
	}
	return p.front.identify(c)
}

// checkUser refuses a user whose notifications no stream could show.
func (p *publisher) checkUser(user string) error {
	if err := auth.CheckUser(user); err != nil {
		return refuse(http.StatusBadRequest, codeInvalidUser, err.Error())
	}
	if err := p.front.checkUser(user); err != nil {
		return refuse(http.StatusForbidden, codeUserNotServed, err.Error())
	}
	return nil
}
