package main

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"herald/cmd/herald/tail"
	"herald/stream"
)

// client is one user's client. Its goroutine asks for records until the context of run ends.
type client struct {
	load *load
	user string
	http *http.Client

	lastID string
	number uint64 // of the last record that arrived
	live   bool   // the client has a position, so it misses no record any more

	cutAt atomic.Int64 // when the connection was cut; Unix time in ns; 0: the client is live

	mu   sync.Mutex
	conn *wireConn // the last connection
}

func newClient(l *load, user string) *client {
	c := &client{load: l, user: user}
	c.http = &http.Client{Transport: c.transport()}
	return c
}

// run asks until ctx ends. Of polls, the first begins at once. The second follows after a random part of the interval, so
// that the clients' polls are spread.
func (c *client) run(ctx context.Context) {
	t := c.load.transport
	next := time.Now()
	if t.every > 0 {
		next = next.Add(rand.N(t.every) - t.every) //nolint:gosec // no secret
	}
	for ctx.Err() == nil {
		err := c.ask(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil && t.protocol == poll:
			c.becomeLive()
			next = next.Add(t.every)
			if now := time.Now(); next.Before(now) {
				next = now // the machine is overloaded
			}
			sleep(ctx, time.Until(next))
		case c.cutAt.Load() == 0 && !c.wasCut():
			c.load.note(err)
			sleep(ctx, 200*time.Millisecond)
		default:
			sleep(ctx, time.Millisecond)
		}
	}
}

func sleep(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// ask opens a stream and reads it to its end, or makes one poll. For a complete answer to a poll, it returns nil.
func (c *client) ask(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	body, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer body.Close()
	if c.load.transport.wait > 0 && c.live {
		c.becomeLive() // the poll waits for records again
	}
	events := tail.NewEventReader(body, c.lastID)
	for {
		e, err := events.Next()
		if err != nil {
			if errors.Is(err, io.EOF) && c.load.transport.protocol == poll {
				return nil
			}
			return err
		}
		c.handle(e)
		c.lastID = events.LastID()
	}
}

// open sends the request and returns the body of its answer.
func (c *client) open(ctx context.Context) (io.ReadCloser, error) {
	t := c.load.transport
	query := url.Values{"user": {c.user}}
	c.load.requests.Add(1)
	if t.protocol == webSocket {
		return c.openWebSocket(ctx, query)
	}
	path := eventsPath
	if t.netHTTP {
		path = netHTTPPath
	}
	if t.protocol == poll {
		wait := t.wait
		if c.lastID == "" {
			wait = 0 // the first answer has the position from which the others continue
		}
		query.Set("wait", wait.String())
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.load.url("http")+path+"?"+query.Encode(), nil)
	if err != nil {
		return nil, err
	}
	req.Header = browserHeader.Clone()
	if c.lastID != "" {
		req.Header.Set("Last-Event-ID", c.lastID)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		_ = res.Body.Close()
		return nil, errors.New("the server answers " + res.Status)
	}
	return res.Body, nil
}

func (c *client) openWebSocket(ctx context.Context, query url.Values) (io.ReadCloser, error) {
	options := &websocket.DialOptions{HTTPClient: c.http, HTTPHeader: browserHeader.Clone(), CompressionMode: websocket.CompressionDisabled}
	if c.load.transport.deflate {
		options.CompressionMode = websocket.CompressionContextTakeover
		query.Set(deflateParameter, "")
	}
	if c.lastID != "" {
		query.Set(stream.ParamLastID, c.lastID)
	}
	conn, _, err := websocket.Dial(ctx, c.load.url("ws")+webSocketPath+"?"+query.Encode(), options) //nolint:bodyclose // the library closes it
	if err != nil {
		return nil, err
	}
	conn.SetReadLimit(-1)
	return &messages{ctx: ctx, conn: conn}, nil
}

// messages reads the messages of a WebSocket as one text.
type messages struct {
	ctx     context.Context //nolint:containedctx // of the connection
	conn    *websocket.Conn
	message io.Reader // the rest of the last message; nil: nothing
}

func (m *messages) Read(p []byte) (n int, err error) {
	for n == 0 {
		if m.message == nil {
			if _, m.message, err = m.conn.Reader(m.ctx); err != nil {
				return 0, err
			}
		}
		if n, err = m.message.Read(p); err != nil {
			if !errors.Is(err, io.EOF) {
				return n, err
			}
			m.message = nil
		}
	}
	return n, nil
}

func (m *messages) Close() error { return m.conn.CloseNow() }

// handle counts an event.
func (c *client) handle(e tail.Event) {
	switch e.Type {
	case stream.TypeCheckpoint:
		if c.load.transport.protocol != poll && strings.Contains(e.Data, `"live":true`) {
			c.becomeLive()
		}
	case stream.TypeGap, stream.TypeEnd:
		c.load.note(errors.New("event " + e.Type + " " + e.Data))
	default:
		n, err := parseNotification(e.Data)
		if err == nil && n.User != c.user {
			err = errors.New("a record of another user")
		}
		if err != nil {
			c.load.note(err)
			return
		}
		c.countRecord(n)
	}
}

func (c *client) countRecord(n notification) {
	switch {
	case n.Number <= c.number:
		c.load.doubled.Add(1)
		return
	case n.Number > c.number+1:
		c.load.lost.Add(int64(n.Number - c.number - 1)) //nolint:gosec // small
	}
	if n.Sent >= c.load.since.Load() {
		c.load.latencies.add(time.Since(time.Unix(0, n.Sent)))
	}
	c.number = n.Number
	c.load.events.Add(1)
}

// becomeLive notes that the client gets new records as they come, and how long that took after a cut.
func (c *client) becomeLive() {
	if !c.live {
		c.live = true
		c.load.ready.Add(1)
	}
	if at := c.cutAt.Swap(0); at != 0 && c.load.transport.every == 0 { // a client that polls in intervals is never live
		c.load.liveAgain.add(time.Since(time.Unix(0, at)))
	}
}

// wasCut reports whether the tool has reset the client's last connection. cutAt alone does not tell: the client
// sets it to 0 when it reads a checkpoint that was on its way before the cut.
func (c *client) wasCut() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.conn != nil && c.conn.cut.Load()
}

// cut resets the client's connection.
func (c *client) cut() {
	c.cutAt.CompareAndSwap(0, time.Now().UnixNano())
	c.mu.Lock()
	conn := c.conn
	c.mu.Unlock()
	if conn != nil {
		conn.reset()
	}
}
