package stream

import (
	"testing"
	"time"
)

// streamOptions are what a test's stream needs. Zero values take the defaults of newStream.
type streamOptions struct {
	hub       *Hub
	kafka     Kafka
	out       output
	user      string // default alice
	heartbeat time.Duration
	limits    Limits
	longIDs   *longIDs
	service   *service // instead of hub, kafka, heartbeat, limits and longIDs
	inline    bool     // what may wait runs on the caller's goroutine
}

// newStream returns a stream without a handler. Nothing serves it but the test.
func newStream(tb testing.TB, o streamOptions) *clientStream {
	tb.Helper()
	if o.hub == nil {
		o.hub = NewHub("event-type", nil)
	}
	if o.user == "" {
		o.user = "alice"
	}
	if o.heartbeat == 0 {
		o.heartbeat = time.Hour
	}
	if o.service == nil {
		o.service = newService(tb.Context(), o.hub, o.kafka, o.heartbeat, o.limits)
		o.service.streams.longIDs = o.longIDs
	}
	if o.inline {
		o.service.streams.spawn = func(fn func()) { fn() }
	}
	return newClientStream(o.service, o.out, o.user, 1<<20)
}
