package stream

import (
	"context"
	"log/slog"
	"time"
)

// The access log has a line for each stream that opens and a line for its end, at level debug. At a higher level it costs
// nothing.

func (h *Handler) logOpened(s *clientStream, req streamRequest) {
	if !h.cfg.Logger.Enabled(context.Background(), slog.LevelDebug) {
		return
	}
	h.cfg.Logger.Debug("stream opened", "id", s.admission.opened, "user", s.sub.user, "address", addressText(s.admission.from),
		"protocol", s.protocol.String(), "kind", s.kind(), "start", req.startLabel())
}

// logEnded is called by the goroutine that serves the stream.
func (h *Handler) logEnded(s *clientStream, cause error) {
	if !h.cfg.Logger.Enabled(context.Background(), slog.LevelDebug) {
		return
	}
	reason, age := endLabel(cause), time.Since(time.UnixMicro(s.admission.opened))
	attrs := []any{
		"id", s.admission.opened, "user", s.sub.user, "address", addressText(s.admission.from), "protocol", s.protocol.String(), "kind", s.kind(),
		"reason", reason, "seconds", age.Round(time.Millisecond).Seconds(), "events", s.writer.events.Load(), "bytes", s.writer.taken(),
	}
	if reason == endClient || reason == endError || reason == endWriteTimeout {
		attrs = append(attrs, "error", cause)
	}
	h.cfg.Logger.Debug("stream ended", attrs...)
}

// kind returns what the stream is for a listing and for the log.
func (s *clientStream) kind() string {
	if s.writer.poll != nil {
		return "poll"
	}
	return "stream"
}
