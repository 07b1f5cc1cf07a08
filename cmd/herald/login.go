package main

import (
	"context"
	"sync/atomic"

	"github.com/segmentio/kafka-go/sasl"
)

// login is a SASL mechanism whose user and password can change. Connections to Kafka that are open stay open, and new ones
// use the new user and password.
type login struct {
	current atomic.Pointer[sasl.Mechanism]
}

// set replaces the user and the password. The mechanism must keep its name.
func (l *login) set(m sasl.Mechanism) { l.current.Store(&m) }

// Name implements [sasl.Mechanism].
func (l *login) Name() string { return (*l.current.Load()).Name() }

// Start implements [sasl.Mechanism].
func (l *login) Start(ctx context.Context) (sasl.StateMachine, []byte, error) {
	return (*l.current.Load()).Start(ctx)
}
