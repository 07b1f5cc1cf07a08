package broker

import (
	"context"
	"time"
)

// deadlines are the deadlines of a connection; zero: none.
type deadlines struct{ read, write time.Time }

// renewSession renews the SASL session of the connection if that is due (KIP-368). The caller has written no byte of the
// next request. While responses are on their way, renewSession does nothing, because it would read their bytes; a later
// request renews the session. Such a request comes soon: the goroutines of kafka-go's ConsumerGroup send requests at the
// same time, but kafka-go sends a request that waits for long (JoinGroup) alone.
func (c *checkedConn) renewSession() error {
	if !c.session.isDue() {
		return nil
	}
	limit, ok := c.beginRenewal()
	if !ok {
		return nil
	}
	defer c.endRenewal()
	ctx, cancel := context.WithDeadline(context.Background(), limit) // kafka-go passes no context to Write
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
