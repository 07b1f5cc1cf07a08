package login

import (
	"context"
	"sync/atomic"

	"github.com/segmentio/kafka-go/sasl"
)

// Replaceable is a SASL mechanism that can be replaced by another one of the same name. Sessions of connections that are
// open stay, and each later log-in takes the new mechanism. It is safe for concurrent use.
type Replaceable struct {
	current atomic.Pointer[sasl.Mechanism]
}

// Set replaces the mechanism. The first call must precede all others.
func (r *Replaceable) Set(m sasl.Mechanism) { r.current.Store(&m) }

// Name implements [sasl.Mechanism].
func (r *Replaceable) Name() string { return (*r.current.Load()).Name() }

// Start implements [sasl.Mechanism].
func (r *Replaceable) Start(ctx context.Context) (sasl.StateMachine, []byte, error) {
	return (*r.current.Load()).Start(ctx)
}

// Advice returns the advice of the mechanism, "" if it has none. See [Bearer.Advice].
func (r *Replaceable) Advice() string {
	if m, ok := (*r.current.Load()).(interface{ Advice() string }); ok {
		return m.Advice()
	}
	return ""
}
