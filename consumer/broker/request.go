package broker

import (
	"context"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/segmentio/kafka-go/protocol"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Any in place of a broker's id sends a request to whichever bootstrap broker takes a connection.
const Any = -1

// anyTimeout is how long [Cluster.RequestAny] waits for one broker. It is short enough to try three brokers within
// RequestTimeout.
const anyTimeout = RequestTimeout / 3

// Request sends req to the broker with that id, or to [Any], and returns the response. ctx bounds it.
//
// The response is read into buf, which grows as needed, and points into it. With a nil buf it has memory
// of its own. After an error the caller must not use buf again: kafka-go gives up a cancelled request,
// but the goroutine that reads its response may still write to buf.
//
// Request sends req in the highest version that the broker and Herald speak. If req has a version other than 0, Request
// chooses no higher one. The response has the version that was chosen.
func (c *Cluster) Request(ctx context.Context, broker int32, req kmsg.Request, buf *[]byte) (kmsg.Response, error) {
	if c.transport.Context.Err() != nil {
		return nil, errClosed
	}
	if buf == nil {
		buf = new([]byte)
	}
	begun := time.Now()
	res, err := c.transport.RoundTrip(ctx, c.addr, &exchange{req: req, id: c.lastID.Add(1), broker: broker, buf: buf})
	err = c.blame(err, begun)
	c.roster.recordOutcome(broker, begun, err)
	if err != nil {
		return nil, c.explain(err, req, broker, time.Since(begun))
	}
	c.answered.Store(true)
	return res.(*reply).Response, nil
}

// RequestAny sends req, which any broker can answer, to one broker after the other until one answers: a
// broker that is unreachable says nothing about the others. The bootstrap brokers come last. The error is
// the first broker's.
func (c *Cluster) RequestAny(ctx context.Context, req kmsg.Request) (kmsg.Response, error) {
	var first error
	for _, id := range c.roster.listInOrder() {
		attempt, cancel := context.WithTimeout(ctx, anyTimeout)
		res, err := c.Request(attempt, id, req, nil)
		cancel()
		if err == nil {
			c.roster.recordTurn(id)
			return res, nil
		}
		if first == nil {
			first = err
		}
		if ctx.Err() != nil {
			break
		}
		c.roster.recordSilence(id)
	}
	return nil, first
}

// RequestCoordinator finds the coordinator of the consumer group and sends req to it, both within
// [RequestTimeout].
func (c *Cluster) RequestCoordinator(ctx context.Context, group string, req kmsg.Request) (kmsg.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, RequestTimeout)
	defer cancel()
	find := kmsg.NewPtrFindCoordinatorRequest()
	find.CoordinatorKey = group
	res, err := c.RequestAny(ctx, find)
	if err != nil {
		return nil, err
	}
	found := res.(*kmsg.FindCoordinatorResponse)
	if err := kerr.ErrorForCode(found.ErrorCode); err != nil {
		return nil, fmt.Errorf("coordinator of group %s: %w", group, err)
	}
	return c.Request(ctx, found.NodeID, req, nil)
}

// exchange is one request and its response on a kafka-go connection, encoded by kmsg. kafka-go calls
// Broker to choose the connection and RawExchange to use it.
type exchange struct {
	req    kmsg.Request
	id     int32 // the correlation id
	broker int32
	buf    *[]byte
}

// reply carries the decoded response through kafka-go, which wants a protocol.Message.
type reply struct {
	kmsg.Response
}

// ApiKey implements [protocol.Message].
func (r *reply) ApiKey() protocol.ApiKey { return protocol.ApiKey(r.Key()) } //nolint:revive // kafka-go's name

// ApiKey implements [protocol.Message].
func (x *exchange) ApiKey() protocol.ApiKey { return protocol.ApiKey(x.req.Key()) } //nolint:revive // kafka-go's name

// Broker says to kafka-go which broker to connect to.
func (x *exchange) Broker(protocol.Cluster) (protocol.Broker, error) {
	return protocol.Broker{ID: x.broker}, nil
}

// Required has kafka-go use RawExchange, whatever versions the broker speaks.
func (x *exchange) Required(map[protocol.ApiKey]int16) bool { return true }

// RawExchange writes the request and reads its response.
func (x *exchange) RawExchange(rw io.ReadWriter) (protocol.Message, error) {
	offer, err := offerOf(rw)
	if err != nil {
		return nil, err
	}
	req, err := offer.withVersion(x.req)
	if err != nil {
		return nil, err
	}
	if _, err := rw.Write(formatter.AppendRequest(nil, req, x.id)); err != nil {
		return nil, err
	}
	res, err := ReadResponse(rw, req, x.id, x.buf)
	if err != nil {
		return nil, err
	}
	return &reply{res}, nil
}

// converse sends one request on a connection that kafka-go does not have yet, and reads its response. ctx bounds it.
func converse(ctx context.Context, conn net.Conn, req kmsg.Request, id int32) (kmsg.Response, error) {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := conn.Write(formatter.AppendRequest(nil, req, id)); err != nil {
		return nil, err
	}
	return ReadResponse(conn, req, id, new([]byte))
}

// formatter writes the headers of requests.
var formatter = kmsg.NewRequestFormatter(kmsg.FormatterClientID(clientID))
