package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/labstack/echo/v4"

	"herald/consumer"
)

// Viewer is the user of a stream, with the records that the user may see and the end of that permission.
type Viewer struct {
	User    string
	Expires time.Time           // zero: never
	Types   []string            // event types; nil: all, empty: none
	Topics  []string            // broadcast topics; nil: all, empty: none
	Where   consumer.Conditions // on the headers of records

	TokenID  string    // the id of the viewer's token, for [Handler.End]; may be empty
	IssuedAt time.Time // when the token was issued

	// Claims are the values that the viewer has of the claims that routes name ([consumer.Route.Claim]), by the name of the
	// claim. The stream gets the records of these values. Without a value of a topic's claim it does not have the topic.
	Claims map[string][]string

	// Holds, if not nil, reports whether the token is still valid. The handler calls it once [Handler.End] can end
	// the stream, because the token may have been revoked since it was checked.
	Holds func() bool
}

// Config configures a [Handler]. Zero durations and sizes take the defaults.
type Config struct {
	Hub    *Hub
	Kafka  Kafka
	Viewer func(echo.Context) (Viewer, error) // the client gets an [EndError] as an end event; Echo gets other errors

	Heartbeat    time.Duration // the time between heartbeats; default 15 s
	WriteTimeout time.Duration // how long a write may make no progress; default 10 s
	Retry        time.Duration // the clients' reconnection time, spread by half up and down; default 2 s
	Limits       Limits        // bounds the records that a returning client gets; default none
	Admission    Admission     // bounds the number of streams; default none
	MaxQueue     int           // the most bytes that wait for one stream; default 256 KiB
	Logger       *slog.Logger

	// Hold, if not nil, keeps the connection of a request open until release is called. The handler calls it for a
	// stream over HTTP/2, whose connection is not taken over. ctx is the context of the request.
	Hold func(ctx context.Context) (release func())
}

// Settings are the part of a [Config] that [Handler.Change] changes. There are no defaults.
type Settings struct {
	Retry     time.Duration
	Limits    Limits
	Admission Admission
	MaxQueue  int
}

// Handler serves streams.
type Handler struct {
	cfg     Config // without the current Settings
	current atomic.Pointer[Settings]
	service *service
	engine  *engine
	roster  *roster
	watcher watcher
	stop    context.CancelFunc
}

// NewHandler returns a handler for cfg.
func NewHandler(cfg Config) *Handler {
	if cfg.Heartbeat == 0 {
		cfg.Heartbeat = 15 * time.Second
	}
	if cfg.WriteTimeout == 0 {
		cfg.WriteTimeout = 10 * time.Second
	}
	if cfg.Retry == 0 {
		cfg.Retry = 2 * time.Second
	}
	if cfg.MaxQueue == 0 {
		cfg.MaxQueue = 256 << 10
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	h := &Handler{cfg: cfg, engine: newEngine(), roster: newRoster(cfg.Admission, cfg.Heartbeat)}
	h.current.Store(&Settings{cfg.Retry, cfg.Limits, cfg.Admission, cfg.MaxQueue})
	life, stop := context.WithCancel(context.Background())
	h.stop = stop
	h.service = newService(life, cfg.Hub, cfg.Kafka, cfg.Heartbeat, cfg.Limits)
	h.service.streams.longIDs = &longIDs{log: cfg.Logger, logged: make(map[string]bool)}
	h.service.streams.schedule = h.engine.schedule
	h.service.streams.closed = h.closed
	return h
}

// AwaitLocks returns when the locks of the roster and of the hub have been free.
func (h *Handler) AwaitLocks() {
	h.roster.mu.Lock()
	h.roster.mu.Unlock() //nolint:staticcheck // to have had it is enough
	h.cfg.Hub.mu.Lock()
	h.cfg.Hub.mu.Unlock() //nolint:staticcheck // as above
}

// Drain ends all streams with the reason [ErrDraining], so that their clients reconnect to another replica. It ends
// them one after the other within the window, at 200 a second or more. It returns when all streams have written
// the events that waited for them. When ctx ends, it cuts the remaining streams. New streams are refused.
func (h *Handler) Drain(ctx context.Context, window time.Duration) {
	h.roster.drainStreams(ctx, window)
	h.watcher.close()
	h.stop()
}

// Change changes the settings while streams are open. Open streams stay open, also above lower limits, and keep the
// queue and the reconnection time that they have. They take the limits of replays from their next replay on.
func (h *Handler) Change(s Settings) {
	h.roster.setLimits(s.Admission)
	h.service.catchUps.limits.Store(&s.Limits)
	h.current.Store(&s)
}

// End ends the streams of the viewers for whom match returns true, with the reason. The Viewer that match gets has
// only User, TokenID and IssuedAt. match must not wait. End looks at all streams, which takes a third of a second
// for a million.
func (h *Handler) End(reason EndError, match func(Viewer) bool) {
	h.roster.endStreams(reason, matchViewer(match), h.roster.visitStreams)
}

// EndTokens is End among the streams of the users and of the tokens with these ids. It does not look at other
// streams.
func (h *Handler) EndTokens(reason EndError, users, tokenIDs []string, match func(Viewer) bool) {
	h.roster.endStreams(reason, matchViewer(match), func(fn func(*clientStream)) { h.roster.visitTokens(users, tokenIDs, fn) })
}

func matchViewer(match func(Viewer) bool) func(*clientStream) bool {
	return func(s *clientStream) bool { return match(s.admission.viewer(s.sub.user)) }
}

// CacheControl is the header Cache-Control of streams. Without no-transform, a proxy that compresses, such as one with
// npm's compression, holds back even the head of the response until it has enough bytes for a block.
const CacheControl = "no-store, no-transform"

// Events serves the caller's stream (GET), or the head of that answer (HEAD), which opens no stream. The stream resumes
// from the header Last-Event-ID or, without the header, from the query parameter lastEventId. Without an id it begins at
// the time of the parameter since. The parameter types chooses event types; fields and format choose what an event
// has besides the record's value.
func (h *Handler) Events(c echo.Context) error {
	viewer, refused := h.cfg.Viewer(c)
	later, _ := errors.AsType[EndError](refused)
	if refused != nil && later == "" {
		return refused
	}
	query, err := QueryOf(c)
	if err != nil {
		return echo.NewHTTPError(http.StatusBadRequest, err.Error())
	}
	req, err := readRequest(c.Request().Header, query, time.Now())
	if err != nil {
		return echo.NewHTTPError(http.StatusBadRequest, err.Error())
	}
	req.allow(viewer)
	req.protocol = protocolOf(c.Request())
	if c.Request().ContentLength != 0 {
		return echo.NewHTTPError(http.StatusBadRequest, "a stream is asked for without a body")
	}
	header := c.Response().Header()
	header.Set("Content-Type", contentTypes[req.format])
	header.Set("Cache-Control", CacheControl)
	header.Set("X-Accel-Buffering", "no")
	if later != "" {
		return h.refuse(c, req, later)
	}
	if c.Request().Method == http.MethodHead {
		return c.NoContent(http.StatusOK)
	}
	from := ClientNetwork(c).Addr()
	if reason := h.roster.admit(from, viewer.User, req.polls); reason != "" {
		return h.refuse(c, req, reason)
	}
	if req.polls {
		return h.serveShared(c, viewer, from, req)
	}
	conn, err := takeOver(c.Response().Writer, c.Request(), func() http.Header { return runBeforeHooks(c.Response()) }, h.cfg.WriteTimeout, h.cfg.Hub.metrics)
	if errors.Is(err, http.ErrNotSupported) {
		return h.serveShared(c, viewer, from, req)
	}
	if err != nil {
		h.roster.leave(from, viewer.User, false)
		return err
	}
	s := h.register(viewer, from, req, conn)
	conn.watchForEnd(&h.watcher, s.sub)
	go s.start(req) // this goroutine, with all that net/http keeps for it, ends
	return nil
}

// queryKey is the key of a request's [Query] in its [echo.Context].
const queryKey = "herald.query"

// QueryOf returns the query of the request. The first call decodes it, and the later calls return the same. It
// returns the error of [ParseQuery].
func QueryOf(c echo.Context) (Query, error) {
	if query, ok := c.Get(queryKey).(Query); ok {
		return query, nil
	}
	query, err := ParseQuery(c.Request().URL.RawQuery)
	if err == nil {
		c.Set(queryKey, query)
	}
	return query, err
}

// ClientNetwork returns the network that counts as one client in limits by address: the IPv4 address, or the /64
// network of the IPv6 address, because one client may have all addresses of a /64. All clients without an address
// count as one.
func ClientNetwork(c echo.Context) netip.Prefix {
	address, err := netip.ParseAddr(c.RealIP())
	if err != nil {
		return netip.Prefix{}
	}
	address = address.Unmap()
	network, _ := address.Prefix(min(address.BitLen(), 64)) // no error: the address has that many bits
	return network
}

// serveShared serves a stream on a connection that carries other streams, or that cannot be taken over. It serves
// polls too: a connection that was taken over cannot be used again, and the client's next poll would need another one.
func (h *Handler) serveShared(c echo.Context, viewer Viewer, from netip.Addr, req streamRequest) error {
	out := newResponse(c.Response().Writer, h.cfg.WriteTimeout, h.cfg.Hub.metrics) // not Echo's Response, which Echo uses again for other requests
	if err := out.control.SetReadDeadline(time.Time{}); err != nil && !errors.Is(err, http.ErrNotSupported) {
		h.roster.leave(from, viewer.User, req.polls)
		return fmt.Errorf("free the stream of the read time-out: %w", err)
	}
	c.Response().WriteHeader(http.StatusOK)
	if h.cfg.Hold != nil {
		out.free = h.cfg.Hold(c.Request().Context())
	}
	var to output = out
	if req.format != eventStream {
		to = newJSONAnswer(out, req.format == jsonLines, req.lastID)
	}
	s := h.register(viewer, from, req, to)
	if d := detachedFrom(c.Request()); d != nil {
		d.out, d.stream, d.begin = out, s, req
		return nil
	}
	out.watchForEnd(c.Request().Context(), s.sub)
	c.Request().Header.Del("Last-Event-ID") // it may be long, and net/http keeps the request for as long as the stream is open
	go s.start(req)
	out.hold(c.Request().Context())
	return nil
}

// register makes a stream that was admitted and adds it to the roster.
func (h *Handler) register(viewer Viewer, from netip.Addr, req streamRequest, out output) *clientStream {
	// A name from the query would keep the whole request line, which may have a long event id.
	s := newClientStream(h.service, out, strings.Clone(viewer.User), h.current.Load().MaxQueue)
	s.setShape(req.shape)
	s.sub.members = newMemberships(viewer.Claims)
	s.catchUp.turn = rand.Uint32N(1 << 16) //nolint:gosec // for fairness, not a secret
	s.protocol = req.protocol
	s.admission = admitted{from: from, tokenID: viewer.TokenID, issuedAt: viewer.IssuedAt}
	if !viewer.Expires.IsZero() {
		left := time.Until(viewer.Expires)
		early := min(left/10, 5*time.Second)                                                              // viewers who signed in together then do not all reconnect together
		s.admission.expiry = time.AfterFunc(left-rand.N(max(1, early)), func() { s.sub.end(ErrExpired) }) //nolint:gosec // jitter
	}
	if req.polls {
		s.writer.poll = newPoll(req)
	}
	h.roster.addStream(s)
	if viewer.Holds != nil && !viewer.Holds() {
		s.sub.end(ErrRevoked)
	}
	m := h.cfg.Hub.metrics
	m.open.Inc()
	m.opened.WithLabelValues(req.startLabel()).Inc()
	h.logOpened(s, req)
	b := s.writer.buffer()
	b.b = appendOpening(b.b, h.jitter(h.current.Load().Retry))
	return s
}

// closed forgets a stream that has ended.
func (h *Handler) closed(s *clientStream, cause error) {
	if s.admission.expiry != nil {
		s.admission.expiry.Stop()
	}
	h.roster.removeStream(s)
	m := h.cfg.Hub.metrics
	m.open.Dec()
	m.ended.WithLabelValues(endLabel(cause)).Inc()
	h.logEnded(s, cause)
	h.roster.leave(s.admission.from, s.sub.user, s.writer.poll != nil) // last: [Handler.Drain] may return
}

// jitter spreads a reconnection time by half up and down.
func (h *Handler) jitter(d time.Duration) time.Duration {
	return d/2 + rand.N(d) //nolint:gosec // no secret
}

// refuse answers a request that cannot have a stream now, by a stream that ends at once. After any status but 200 a
// native EventSource would never reconnect (WHATWG HTML, section 9.2.3). A client that asks for JSON gets a status.
func (h *Handler) refuse(c echo.Context, r streamRequest, reason EndError) error {
	h.cfg.Hub.metrics.refused.WithLabelValues(string(reason)).Inc()
	later := h.jitter(refusedRetry * h.current.Load().Retry)
	if r.format != eventStream {
		c.Response().Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(later.Seconds()))))
		return echo.NewHTTPError(http.StatusServiceUnavailable, "this poll cannot be answered now: ask again after the time of Retry-After").SetInternal(reason)
	}
	if c.Request().ProtoMajor == 1 { // over HTTP/2 this would end the other streams of the connection too
		c.Response().Header().Set("Connection", "close")
	}
	c.Response().WriteHeader(http.StatusOK)
	b := r.appendOwnID(appendOpening(nil, later))
	_, err := c.Response().Write(appendOwn(b, TypeEnd, endData{reason}))
	return err
}

// refusedRetry is the factor by which a refused client's reconnection time is longer.
const refusedRetry = 5

// runBeforeHooks runs what middleware has registered with Echo to run before the response, and returns the
// response's headers. It writes nothing.
func runBeforeHooks(res *echo.Response) http.Header {
	res.Writer = headOnly{res.Header()}
	res.WriteHeader(http.StatusOK)
	return res.Header()
}

// headOnly is a response whose status and body are dropped.
type headOnly struct{ header http.Header }

func (h headOnly) Header() http.Header         { return h.header }
func (h headOnly) Write(b []byte) (int, error) { return len(b), nil }
func (h headOnly) WriteHeader(int)             {}
