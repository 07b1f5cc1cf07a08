package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/segmentio/kafka-go/sasl"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	// A session is renewed after a random part of its time: at least renewEarliest, at most renewLatest (KIP-368). This is
	// early enough for a slow broker, and connections that open together do not renew together.
	renewEarliest, renewLatest = 0.85, 0.95

	// renewPause is the least time between two log-ins on a connection. A broker refuses a log-in within a second of the
	// last one (KIP-368).
	renewPause = 1100 * time.Millisecond

	// startPatience is how long a request waits for a mechanism to start while the old session still lasts. A
	// mechanism may ask a token endpoint, which may be slow or down.
	startPatience = time.Second

	// startTimeout is how long a new connection waits for a mechanism to start. It is shorter than any request waits for
	// a connection, so that a mechanism that hangs is known when the request fails ([Cluster.blame]).
	startTimeout = anyTimeout * 3 / 4

	// longestSession bounds the length of a session as the broker reports it, because no checksum covers the response.
	longestSession = 365 * 24 * time.Hour
)

// session is the SASL session of one connection. A session begins with the log-in on a new connection. It may end: a
// broker with connections.max.reauth.ms, or whose tokens end, says when (KIP-368). The broker then closes the connection
// at the next request, unless the session is renewed by another log-in on the same connection.
//
// One goroutine at a time uses a session: first [Cluster.dial], then the goroutine that writes to the connection.
type session struct {
	mechanism sasl.Mechanism
	broker    sasl.Metadata
	version   int16 // of SaslAuthenticate
	lastID    *atomic.Int32
	renewals  *renewals

	due  time.Time // when to renew the session; zero: the session does not end
	ends time.Time
}

// renewals counts the log-ins on connections that were logged in before.
type renewals struct{ succeeded, failed atomic.Int64 }

// Renewals returns how many log-ins on connections that were logged in before succeeded, and how many failed.
func (c *Cluster) Renewals() (succeeded, failed int64) {
	return c.renewals.succeeded.Load(), c.renewals.failed.Load()
}

// logIn logs in on a new connection to the address. It returns nil if the cluster has no SASL mechanism.
func (c *Cluster) logIn(ctx context.Context, conn net.Conn, address string, offer offer) (*session, error) {
	if c.mechanism == nil {
		return nil, nil //nolint:nilnil // without SASL there is no session
	}
	if _, err := offer.choose(kmsg.SASLHandshake); err != nil {
		return nil, err
	}
	version, err := offer.choose(kmsg.SASLAuthenticate)
	if err != nil {
		return nil, err
	}
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", address, err)
	}
	s := &session{
		mechanism: c.mechanism, broker: sasl.Metadata{Host: host, Port: port}, version: version,
		lastID: &c.lastID, renewals: &c.renewals,
	}
	ctx = sasl.WithMetadata(ctx, &s.broker)
	machine, first, unstarted := s.startWithin(ctx, startTimeout)
	c.unstarted.Store(unstarted)
	if unstarted != nil {
		return nil, unstarted
	}
	if err := s.authenticate(ctx, conn, machine, first); err != nil {
		return nil, err
	}
	return s, nil
}

// blame returns the error of a request sent at begun, which may be nil, or why the mechanism could not start since then if
// the request has timed out. Such a request has waited for a connection, and a time-out would look as if the broker did not
// answer.
func (c *Cluster) blame(err error, begun time.Time) error {
	if unstarted := c.unstarted.Load(); unstarted != nil && err != nil && isTimeout(err) && unstarted.at.After(begun) {
		return unstarted
	}
	return err
}

// isDue reports whether it is time to renew the session.
func (s *session) isDue() bool { return s != nil && !s.due.IsZero() && !time.Now().Before(s.due) }

// renew logs in again on a connection with no request under way. If the mechanism cannot start while the session still
// lasts, renew returns nil, and another request tries again. After another error, the connection must be closed.
func (s *session) renew(ctx context.Context, conn net.Conn) error {
	ctx = sasl.WithMetadata(ctx, &s.broker)
	patience := dialTimeout
	if left := time.Until(s.ends); left > 0 {
		patience = min(left, startPatience)
	}
	machine, first, unstarted := s.startWithin(ctx, patience)
	if unstarted != nil {
		s.renewals.failed.Add(1)
		left := time.Until(s.ends)
		if left <= 0 {
			return fmt.Errorf("renew the session: %w", unstarted)
		}
		s.due = time.Now().Add(min(left, max(left/4, renewPause)))
		return nil
	}
	if err := s.authenticate(ctx, conn, machine, first); err != nil {
		s.renewals.failed.Add(1)
		return fmt.Errorf("renew the session: %w", err)
	}
	s.renewals.succeeded.Add(1)
	return nil
}

// startWithin returns the mechanism's state for one log-in, and what to send first.
func (s *session) startWithin(ctx context.Context, limit time.Duration) (sasl.StateMachine, []byte, *startError) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	machine, first, err := s.mechanism.Start(ctx)
	if err != nil {
		return nil, nil, &startError{s.mechanism.Name(), err, time.Now()}
	}
	return machine, first, nil
}

// authenticate exchanges the mechanism's messages with the broker, and notes when the session ends.
func (s *session) authenticate(ctx context.Context, conn net.Conn, machine sasl.StateMachine, message []byte) error {
	if err := s.shakeHands(ctx, conn); err != nil {
		return err
	}
	for done := false; !done; {
		req := kmsg.NewPtrSASLAuthenticateRequest()
		req.Version, req.SASLAuthBytes = s.version, message
		sent := time.Now()
		answer, err := converse(ctx, conn, req, s.lastID.Add(1))
		if isClosed(err) { // some brokers explain no more
			closed := "the broker closed the connection"
			return s.refuseBy(machine, kerr.SaslAuthenticationFailed, &closed)
		}
		if err != nil {
			return fmt.Errorf("log in by %s: %w", s.mechanism.Name(), err)
		}
		res := answer.(*kmsg.SASLAuthenticateResponse)
		if err := kerr.ErrorForCode(res.ErrorCode); err != nil {
			return s.refuseBy(machine, err, res.ErrorMessage)
		}
		if done, message, err = machine.Next(ctx, res.SASLAuthBytes); err != nil {
			return fmt.Errorf("log in by %s: %w", s.mechanism.Name(), err)
		}
		s.setEnd(sent, res.SessionLifetimeMillis)
	}
	return ctx.Err()
}

// shakeHands names the mechanism to the broker.
func (s *session) shakeHands(ctx context.Context, conn net.Conn) error {
	req := kmsg.NewPtrSASLHandshakeRequest()
	req.Version, req.Mechanism = 1, s.mechanism.Name()
	answer, err := converse(ctx, conn, req, s.lastID.Add(1))
	if err != nil {
		return fmt.Errorf("log in by %s: %w", s.mechanism.Name(), err)
	}
	res := answer.(*kmsg.SASLHandshakeResponse)
	if err := kerr.ErrorForCode(res.ErrorCode); err != nil {
		refused := s.refuse(err, "")
		refused.offered = res.SupportedMechanisms
		return refused
	}
	return nil
}

// setEnd sets when the session ends and is due to be renewed. lifetime is in milliseconds; 0: the session does not end.
func (s *session) setEnd(begun time.Time, lifetime int64) {
	s.due, s.ends = time.Time{}, time.Time{}
	if lifetime <= 0 {
		return
	}
	lasts := time.Duration(min(lifetime, longestSession.Milliseconds())) * time.Millisecond
	part := renewEarliest + rand.Float64()*(renewLatest-renewEarliest) //nolint:gosec // nobody gains by guessing it
	s.ends = begun.Add(lasts)
	s.due = begun.Add(max(time.Duration(part*float64(lasts)), renewPause))
}

// refuse returns the error of a log-in that the broker refuses. A mechanism may know which flags help.
func (s *session) refuse(err error, text string) *refusalError {
	refused := &refusalError{mechanism: s.mechanism.Name(), err: err, text: text, again: !s.ends.IsZero()}
	if m, ok := s.mechanism.(interface{ Advice() string }); ok {
		refused.see = m.Advice()
	}
	return refused
}

// refuseBy returns the error of a log-in that the broker refuses. Its text is the reason that the mechanism got from the
// broker, or else the text of the broker's response.
func (s *session) refuseBy(machine sasl.StateMachine, err error, said *string) *refusalError {
	text := ""
	if said != nil {
		text = *said
	}
	if m, ok := machine.(interface{ RecordRefusal() string }); ok {
		text = cmp.Or(m.RecordRefusal(), text)
	}
	return s.refuse(err, text)
}

// startError says that a mechanism could not start a log-in, for example because a token endpoint does not answer. It
// does not unwrap to the cause: a time-out of the endpoint says nothing of the broker.
type startError struct {
	mechanism string
	cause     error
	at        time.Time
}

func (e *startError) Error() string { return fmt.Sprintf("log in by %s: %v", e.mechanism, e.cause) }

// Is reports whether the cause is a context's end, which callers look for.
func (e *startError) Is(target error) bool {
	return target == context.Canceled && errors.Is(e.cause, target)
}
