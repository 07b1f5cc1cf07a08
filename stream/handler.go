package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"github.com/labstack/echo/v4"
)

// Viewer is whom a stream is for and until when.
type Viewer struct {
	User    string
	Expires time.Time // zero: never
}

// Config is what a [Handler] needs. Zero durations and sizes take the defaults.
type Config struct {
	Hub    *Hub
	Log    Log
	Viewer func(echo.Context) (Viewer, error) // its error is returned to Echo as it is

	Heartbeat    time.Duration // between signs of life; default 15 s
	WriteTimeout time.Duration // for a write to make progress; default 10 s
	Retry        time.Duration // reconnection time told to clients, jittered by half; default 2 s
	Limits       Limits        // of what a client that comes back is sent; default none
	MaxQueue     int           // bytes that wait for one stream; default 256 KiB
	Logger       *slog.Logger
}

// Why a stream ends, as its end event says.
var (
	errDraining = errors.New("draining")
	errExpired  = errors.New("token-expired")
)

// Handler serves streams.
type Handler struct {
	cfg   Config
	drain context.Context //nolint:containedctx // the life of all streams
	stop  context.CancelCauseFunc
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
	h := &Handler{cfg: cfg}
	h.drain, h.stop = context.WithCancelCause(context.Background())
	return h
}

// Drain ends all streams with a reason, so that their clients reconnect elsewhere.
func (h *Handler) Drain() { h.stop(errDraining) }

// Events serves the caller's stream (GET). It resumes from the Last-Event-ID header or, without
// one, the lastEventId query parameter; without an id it begins where the parameter since says. The
// parameter types chooses event types.
func (h *Handler) Events(c echo.Context) error {
	viewer, err := h.cfg.Viewer(c)
	if err != nil {
		return err
	}
	req, err := parseRequest(c, time.Now())
	if err != nil {
		return echo.NewHTTPError(http.StatusBadRequest, err.Error())
	}
	ctx, cancel := context.WithCancelCause(c.Request().Context())
	defer cancel(nil)
	defer context.AfterFunc(h.drain, func() { cancel(errDraining) })()
	if !viewer.Expires.IsZero() {
		timer := time.AfterFunc(time.Until(viewer.Expires), func() { cancel(errExpired) })
		defer timer.Stop()
	}
	if c.Request().ContentLength != 0 {
		return echo.NewHTTPError(http.StatusBadRequest, "a stream is asked for without a body")
	}
	control := http.NewResponseController(c.Response())
	if err := control.SetReadDeadline(time.Time{}); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return fmt.Errorf("free the stream of the read time-out: %w", err)
	}
	header := c.Response().Header()
	header.Set("Content-Type", "text/event-stream")
	header.Set("Cache-Control", "no-store")
	header.Set("X-Accel-Buffering", "no")
	c.Response().WriteHeader(http.StatusOK)

	out := &writer{ResponseWriter: c.Response(), control: control, timeout: h.cfg.WriteTimeout, metrics: h.cfg.Hub.metrics}
	m := h.cfg.Hub.metrics
	start := "now"
	switch {
	case req.lastID != "":
		start = "id"
	case req.earliest || req.unseen || !req.since.IsZero():
		start = "since"
	}
	m.opened.WithLabelValues(start).Inc()
	m.open.Inc()
	defer m.open.Dec()
	err = h.serve(ctx, viewer, req, out)
	reason := endReason(err, c.Request().Context().Err() != nil)
	if errors.Is(err, errDraining) || errors.Is(err, errExpired) {
		var end []byte
		if !out.begun {
			end = req.appendOwnID(end)
		}
		err = out.write(appendOwn(end, typeEnd, endData{reason}))
	}
	m.ended.WithLabelValues(reason).Inc()
	h.cfg.Logger.Debug("stream ended", "reason", reason, "error", err)
	return nil // the response has begun: its end is the answer
}

func (h *Handler) serve(ctx context.Context, viewer Viewer, req request, out *writer) error {
	retry := h.cfg.Retry/2 + rand.N(h.cfg.Retry) //nolint:gosec // jitter needs no secret
	if err := out.write(appendOpening(nil, retry)); err != nil {
		return err
	}
	topics, err := h.join(ctx, viewer.User, out)
	if err != nil {
		return err
	}
	defer h.cfg.Log.Leave(viewer.User)
	sub := newSubscription(viewer.User, topics, h.cfg.MaxQueue, h.cfg.Hub.metrics.overflows.Inc)
	h.cfg.Hub.add(sub)
	defer h.cfg.Hub.remove(sub)
	f := &feed{hub: h.cfg.Hub, log: h.cfg.Log, sub: sub, out: out, heartbeat: h.cfg.Heartbeat, request: req, limits: h.cfg.Limits, turn: rand.IntN(1 << 16)} //nolint:gosec // for fairness, no secret
	if err := f.begin(ctx); err != nil {
		return err
	}
	return f.run(ctx)
}

// join waits until the user's topics are being read; the client sees signs of life meanwhile.
func (h *Handler) join(ctx context.Context, user string, out *writer) ([]string, error) {
	for {
		wait, cancel := context.WithTimeout(ctx, h.cfg.Heartbeat)
		topics, err := h.cfg.Log.Join(wait, user)
		late := wait.Err() != nil
		cancel()
		switch {
		case err == nil:
			return topics, nil
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case !late:
			return nil, err
		}
		if err := out.write(heartbeat); err != nil {
			return nil, err
		}
	}
}

// writer writes to the client at once, or fails if the client takes nothing for the time-out.
type writer struct {
	http.ResponseWriter
	control *http.ResponseController
	timeout time.Duration
	metrics *metrics
	begun   bool // an event with an id was written
}

// writePiece is how many bytes a client must take within the write time-out to count as alive.
const writePiece = 16 << 10

func (w *writer) write(b []byte) error {
	for piece := range slices.Chunk(b, writePiece) {
		if err := w.writePiece(piece); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) writePiece(b []byte) error {
	if err := w.control.SetWriteDeadline(time.Now().Add(w.timeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	n, err := w.Write(b)
	w.metrics.bytes.Add(float64(n))
	if err != nil {
		return err
	}
	return w.control.Flush()
}
