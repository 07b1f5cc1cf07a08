package broker

import (
	"context"
	"time"
)

// deadlines are the deadlines of a connection; zero: none.
type deadlines struct{ read, write time.Time }

// renewSession renews the SASL session of the connection if that is due (KIP-368). The caller has written no byte of the
// next request. While responses are on their way, renewSession leaves the renewal to another request: the bytes that it
// would read belong to them. The goroutines of kafka-go's ConsumerGroup send requests side by side, but none that waits
// for long (JoinGroup) goes with others.
func (c *checkedConn) renewSession() error {
	if !c.session.isDue() {
		return nil
	}
	limit, ok := c.beginRenewal()
	if !ok {
		return nil
	}
	defer c.endRenewal()
	ctx, cancel := context.WithDeadline(context.Background(), limit) // of kafka-go, which passes no context here
	defer cancel()
	return c.session.renew(ctx, c.Conn)
}

// beginRenewal reports whether the session can be renewed now, and until when. Until endRenewal, the connection has only
// the deadline of the renewal: a goroutine that has read its response may still set or remove others.
func (c *checkedConn) beginRenewal() (limit time.Time, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.unanswered > 0 {
		return time.Time{}, false
	}
	c.renewing = true
	_ = c.Conn.SetDeadline(time.Time{}) // the next Write returns the error of a connection that is closed
	limit = time.Now().Add(dialTimeout)
	if by := c.deadlines.write; !by.IsZero() && by.Before(limit) {
		limit = by
	}
	return limit, true
}

func (c *checkedConn) endRenewal() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.renewing = false
	_ = c.Conn.SetReadDeadline(c.deadlines.read) // as in beginRenewal
	_ = c.Conn.SetWriteDeadline(c.deadlines.write)
}

// SetDeadline implements [net.Conn].
func (c *checkedConn) SetDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadlines = deadlines{t, t}
	if c.renewing {
		return nil
	}
	return c.Conn.SetDeadline(t)
}

// SetReadDeadline implements [net.Conn].
func (c *checkedConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadlines.read = t
	if c.renewing {
		return nil
	}
	return c.Conn.SetReadDeadline(t)
}

// SetWriteDeadline implements [net.Conn].
func (c *checkedConn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadlines.write = t
	if c.renewing {
		return nil
	}
	return c.Conn.SetWriteDeadline(t)
}
